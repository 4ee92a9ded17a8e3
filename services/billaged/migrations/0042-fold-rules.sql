-- What the hours of usage were folded by: MAX_VCPUS, MIN_GAP, MAX_GAP_CAP, HEARTBEAT_LEASE. Under other rules they are
-- folded again.
create table billaged.fold_rules (
  one boolean primary key default true check (one),
  rules text not null
);
