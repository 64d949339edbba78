-- The append-only audit log. Entries refuse UPDATE, DELETE and TRUNCATE to everyone, the owner included (PCI DSS 10.3.2).

create table audit_entries (
  log    text        not null,
  stream uuid        not null,
  seq    bigint      not null check (seq > 0),
  at     timestamptz not null,
  -- canonical JSON (RFC 8785), as hashed and exported
  line   text        not null check (octet_length(line) <= 16384),
  primary key (log, stream, seq, at)
) partition by range (at);
create index audit_entries_at on audit_entries (log, at, stream, seq);

-- The newest entry of each writer stream; advanced by compare-and-set.
create table audit_heads (
  log        text        not null,
  stream     uuid        not null,
  kind       text        not null check (kind in ('reveal', 'mutation', 'notice')),
  seq        bigint      not null,
  -- SHA-256 of the newest entry's line
  hash       bytea       not null check (length(hash) = 32),
  started_at timestamptz not null default clock_timestamp(),
  primary key (log, stream)
) with (fillfactor = 50);

create function audit_refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'the audit log is append-only: % on % is refused', tg_op, tg_table_name using errcode = 'insufficient_privilege';
end $$;

create function audit_refuse_step_back() returns trigger language plpgsql as $$
begin
  if new.log <> old.log or new.stream <> old.stream or new.kind <> old.kind or new.seq <= old.seq then
    raise exception 'the audit log is append-only: a head only moves forward' using errcode = 'insufficient_privilege';
  end if;
  return new;
end $$;

create trigger audit_entries_append_only before update or delete on audit_entries for each row execute function audit_refuse_change();
create trigger audit_entries_no_truncate before truncate on audit_entries for each statement execute function audit_refuse_change();
create trigger audit_heads_no_delete before delete on audit_heads for each row execute function audit_refuse_change();
create trigger audit_heads_no_truncate before truncate on audit_heads for each statement execute function audit_refuse_change();
create trigger audit_heads_forward before update on audit_heads for each row execute function audit_refuse_step_back();
-- "always": also in a session that sets session_replication_role
alter table audit_entries enable always trigger audit_entries_append_only;
alter table audit_entries enable always trigger audit_entries_no_truncate;
alter table audit_heads enable always trigger audit_heads_no_delete;
alter table audit_heads enable always trigger audit_heads_no_truncate;
alter table audit_heads enable always trigger audit_heads_forward;

-- Makes the partitions of last month to `months_ahead` from now, one a month. Called by every server at start and every hour.
create function audit_ensure_partitions(months_ahead integer) returns integer
language plpgsql security definer set search_path = cardex, pg_temp set lock_timeout = '2s' as $$
declare
  first date := (date_trunc('month', clock_timestamp() at time zone 'UTC') - interval '1 month')::date;
  from_day date;
  partition text;
  made integer := 0;
begin
  if months_ahead < 0 or months_ahead > 60 then
    raise exception 'months_ahead must be 0 to 60';
  end if;
  perform pg_advisory_xact_lock(hashtext('cardex audit partitions'));
  for i in 0 .. months_ahead + 1 loop
    from_day := (first + make_interval(months => i))::date;
    partition := 'audit_entries_' || to_char(from_day, 'YYYY_MM');
    continue when to_regclass('cardex.' || partition) is not null;
    execute format('create table %I (like audit_entries including defaults including constraints)', partition);
    execute format('alter table audit_entries attach partition %I for values from (%L) to (%L)', partition,
                   from_day || ' 00:00:00+00', (from_day + interval '1 month')::date || ' 00:00:00+00');
    execute format('create trigger audit_entries_no_truncate before truncate on %I for each statement execute function audit_refuse_change()', partition);
    execute format('alter table %I enable always trigger audit_entries_append_only', partition);
    execute format('alter table %I enable always trigger audit_entries_no_truncate', partition);
    made := made + 1;
  end loop;
  return made;
end $$;

select audit_ensure_partitions(3);

revoke all on function audit_ensure_partitions(integer) from public;
grant execute on function audit_ensure_partitions(integer) to cardex_service;
grant select, insert on audit_entries, audit_heads to cardex_service;
grant update (seq, hash) on audit_heads to cardex_service;
grant select on audit_entries, audit_heads to cardex_auditor;
