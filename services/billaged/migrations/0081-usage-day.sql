-- The hours of a whole UTC day of a series together: what a month is read from. True for as long as it is there; it goes
-- with the first of its hours that goes, whoever deletes that.
create table billaged.usage_day (
  series_id bigint not null references billaged.series (series_id),
  day integer not null,
  mem_peak bigint not null,
  cpu_ns numeric(40, 0) not null,
  cpu_ns_short numeric(40, 0) not null,
  cpu_ns_long numeric(40, 0) not null,
  disk_read numeric(40, 0) not null,
  disk_read_short numeric(40, 0) not null,
  disk_read_long numeric(40, 0) not null,
  disk_write numeric(40, 0) not null,
  disk_write_short numeric(40, 0) not null,
  disk_write_long numeric(40, 0) not null,
  net_rx numeric(40, 0) not null,
  net_rx_short numeric(40, 0) not null,
  net_rx_long numeric(40, 0) not null,
  net_tx numeric(40, 0) not null,
  net_tx_short numeric(40, 0) not null,
  net_tx_long numeric(40, 0) not null,
  mem_byte_ns numeric(60, 0) not null,
  mem_byte_ns_short numeric(60, 0) not null,
  mem_byte_ns_long numeric(60, 0) not null,
  alive_ns bigint not null,
  measured_ns bigint not null,
  gap_short_ns bigint not null,
  gap_long_ns bigint not null,
  tail_ns bigint not null,
  disputed_ns bigint not null,
  host_down_short_ns bigint not null,
  host_down_long_ns bigint not null,
  host_down_tail_ns bigint not null,
  primary key (series_id, day)
);

create function billaged.forget_days() returns trigger language plpgsql as $$
begin
  delete from billaged.usage_day d using (select distinct series_id, hour / 24 as day from gone) g
  where d.series_id = g.series_id and d.day = g.day;
  return null;
end $$;
create trigger usage_hour_goes after delete on billaged.usage_hour
  referencing old table as gone for each statement execute function billaged.forget_days();

create function billaged.forget_all_days() returns trigger language plpgsql as $$
begin
  delete from billaged.usage_day;
  return null;
end $$;
create trigger usage_hours_go after truncate on billaged.usage_hour
  for each statement execute function billaged.forget_all_days();

insert into billaged.usage_day (series_id, day, mem_peak, cpu_ns, cpu_ns_short, cpu_ns_long, disk_read,
  disk_read_short, disk_read_long, disk_write, disk_write_short, disk_write_long, net_rx, net_rx_short, net_rx_long,
  net_tx, net_tx_short, net_tx_long, mem_byte_ns, mem_byte_ns_short, mem_byte_ns_long, alive_ns, measured_ns,
  gap_short_ns, gap_long_ns, tail_ns, disputed_ns, host_down_short_ns, host_down_long_ns, host_down_tail_ns)
select series_id, hour / 24, max(mem_peak), sum(cpu_ns), sum(cpu_ns_short), sum(cpu_ns_long), sum(disk_read),
  sum(disk_read_short), sum(disk_read_long), sum(disk_write), sum(disk_write_short), sum(disk_write_long),
  sum(net_rx), sum(net_rx_short), sum(net_rx_long), sum(net_tx), sum(net_tx_short), sum(net_tx_long),
  sum(mem_byte_ns), sum(mem_byte_ns_short), sum(mem_byte_ns_long), sum(alive_ns), sum(measured_ns), sum(gap_short_ns),
  sum(gap_long_ns), sum(tail_ns), sum(disputed_ns), sum(host_down_short_ns), sum(host_down_long_ns),
  sum(host_down_tail_ns)
from billaged.usage_hour group by series_id, hour / 24 having count(*) = 24;
