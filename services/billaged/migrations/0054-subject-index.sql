-- Most events are sent under their customer's own id and found by it: only the others need a way of their own, and intake
-- pays for nothing else.
drop index billaged.usage_event_by_subject;
create index usage_event_by_mapped_subject on billaged.usage_event (subject, customer_id) where subject <> customer_id;
