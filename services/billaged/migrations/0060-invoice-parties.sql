-- What invoices print about a customer beside its name: where it is and its tax number. Lines of the address as written.
alter table billaged.customer
  add column address text[] not null default '{}',
  add column tax_id text;
