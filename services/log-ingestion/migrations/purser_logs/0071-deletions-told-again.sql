-- When a replica told a database, that had come back from a backup, of a deletion it did not know any more. The job ends no
-- earlier than every replica has noticed and compared its journal with what is there.
alter table purser_logs.deletions add column told_again_at timestamptz;
