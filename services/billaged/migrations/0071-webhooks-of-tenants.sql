-- Whether a tenant's own key set the address: then it may not lead into private networks, which are the operator's.
alter table billaged.webhook_endpoint add column by_tenant boolean not null default false;
update billaged.webhook_endpoint set by_tenant = customer_id is not null;
