-- The period whose outages a grant is for; null for all others.
alter table billaged.credit_grant add column outage_from timestamptz;
create index credit_grant_by_outage on billaged.credit_grant (customer_id, outage_from) where outage_from is not null;
