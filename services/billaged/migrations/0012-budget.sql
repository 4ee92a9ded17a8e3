-- What a customer means to spend in a period; shown beside what it spent, never enforced here.
alter table billaged.customer add column budget_nano numeric(40, 0) check (budget_nano > 0);
