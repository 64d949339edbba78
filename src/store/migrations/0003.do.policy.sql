-- Who may do what: Casbin rules (access/model.ts), and a version that counts every change of them.

create table policy_rules (
  ptype text not null check (ptype in ('p', 'g')),
  v0    text not null,
  v1    text not null,
  v2    text not null default '',
  v3    text not null default '',
  v4    text not null default '',
  v5    text not null default '',
  v6    text not null default '',
  primary key (ptype, v0, v1, v2, v3, v4, v5, v6)
);

-- One row. The transaction that commits an audited call reads it, so it is never behind the rules.
create table policy_version (
  only_row boolean primary key default true check (only_row),
  version  bigint  not null check (version > 0)
);
insert into policy_version (version) values (1);

-- Security definer: whoever may change rules can't forget the version, and can change it in no other way.
create function policy_bump() returns trigger language plpgsql security definer set search_path = cardex, pg_temp as $$
declare
  bumped bigint;
begin
  update policy_version set version = version + 1 returning version into strict bumped;
  perform pg_notify('cardex_policy', bumped::text);
  return null;
end $$;

create function policy_refuse_version_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and new.version > old.version then
    return new;
  end if;
  raise exception 'the policy version only counts upwards: % is refused', tg_op using errcode = 'insufficient_privilege';
end $$;

create trigger policy_rules_bump after insert or update or delete or truncate on policy_rules
  for each statement execute function policy_bump();
create trigger policy_version_upwards before update or delete on policy_version
  for each row execute function policy_refuse_version_change();
create trigger policy_version_no_truncate before truncate on policy_version
  for each statement execute function policy_refuse_version_change();
-- "always": also in a session that sets session_replication_role
alter table policy_rules enable always trigger policy_rules_bump;
alter table policy_version enable always trigger policy_version_upwards;
alter table policy_version enable always trigger policy_version_no_truncate;

grant select on policy_rules, policy_version to cardex_service;
