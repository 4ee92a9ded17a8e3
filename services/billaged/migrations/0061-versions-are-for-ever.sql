-- A version that an invoice was made with must be there, as it was, for as long as the invoice: new ones follow, none changes.
create trigger append_only before update or delete on billaged.plan_version
  for each row execute function billaged.refuse_change();
