-- Samples an endpoint refused for good: kept for a person to look at, out of the queue's way.
CREATE TABLE quarantine (
  id         INTEGER PRIMARY KEY,
  output     TEXT NOT NULL,
  kind       TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  status     INTEGER NOT NULL,
  answer     TEXT NOT NULL,
  samples    INTEGER NOT NULL,
  lo         INTEGER NOT NULL,        -- positions, so that a retry can put them back
  hi         INTEGER NOT NULL,
  body       BLOB NOT NULL
);
