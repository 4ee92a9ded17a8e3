-- What a series spans is a function of its samples and its own start marks, whatever order they came in. `last_ns` was up
-- to a minute behind; from now on it is up to a minute ahead.
update billaged.series s set
  first_ns = least(s.first_ns, m.first_ns),
  last_ns = greatest(s.last_ns + 120000000000, m.last_ns)
from billaged.series o left join lateral (
  select min(at_ns) as first_ns, max(at_ns) as last_ns from billaged.vm_mark v
  where v.vm_id = o.vm_id and v.customer_id = o.customer_id and v.kind = 'start'
) m on true
where o.series_id = s.series_id;

-- Notices have a window like samples and events, and wait outside it.
alter table billaged.quarantine drop constraint quarantine_what_check;
alter table billaged.quarantine add constraint quarantine_what_check check (what in ('sample', 'event', 'mark'));
