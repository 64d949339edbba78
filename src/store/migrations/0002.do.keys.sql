-- Tenants, the register of keys (never key material: that is in the HSM), and logins to the HSM that did not end well.

create table tenants (
  tenant      text primary key check (tenant ~ '^[a-z0-9][a-z0-9-]{0,31}$' and tenant <> 'system'),
  -- The first four digits of the tenant's index codes.
  institution char(4) not null unique check (institution ~ '^[0-9]{4}$'),
  created_at  timestamptz not null default now()
);

create table keys (
  key_id       uuid primary key,
  purpose      text not null check (purpose in ('pan', 'fingerprint', 'index', 'request', 'consortium', 'audit')),
  tenant       text references tenants (tenant),
  version      integer not null check (version between 1 and 65535),
  state        text not null check (state in ('pending', 'active', 'decrypt-only', 'compromised', 'destroyed')),
  -- CKA_ID of the token object.
  cka_id       text not null unique check (cka_id ~ '^[0-9a-f]{32}$'),
  kind         text not null check (kind in ('aes-256-gcm', 'hmac-sha-256', 'ed25519')),
  label        text not null,
  check_value  text not null check (check_value ~ '^[0-9a-f]{6,64}$'),
  -- Hex; of a signing key.
  public_key   text check (public_key ~ '^[0-9a-f]{64}$'),
  -- What the key made of a fixed text at its birth: whoever makes it again has the same key (PCI DSS 3.7.7).
  known_answer bytea not null,
  created_at   timestamptz not null default now(),
  created_by   text not null,
  check ((purpose = 'pan') = (tenant is not null)),
  check ((kind = 'ed25519') = (public_key is not null)),
  unique nulls not distinct (purpose, tenant, version)
);

-- One key of a purpose is written with.
create unique index keys_one_active on keys (purpose, tenant) nulls not distinct where state = 'active';

-- A PIN that a token refused is not tried again by anybody until the owner deletes the row: tokens lock after a few. So that this holds
-- whatever is killed in between, an attempt is written down before it is made, under a session lock, and its outcome after it: a success
-- deletes the row. keys/login-guard.ts tells the whole.
create table hsm_logins (
  token_serial     text primary key,
  -- attempt: one is being made, or its outcome was never told. unknown: none is, and that of one before it was never told.
  state            text not null check (state in ('attempt', 'unknown', 'refused')),
  attempt_id       uuid not null,
  -- Attempts since the last success whose outcome was never told; the second one counts as a refusal.
  attempts_unknown integer not null default 0 check (attempts_unknown between 0 and 2),
  changed_at       timestamptz not null default now(),
  host             text not null,
  process          integer not null,
  check (state <> 'unknown' or attempts_unknown = 1)
);

create function hsm_logins_hold() returns trigger language plpgsql as $$
begin
  if pg_has_role(current_user, 'cardex_owner', 'usage') then
    return coalesce(new, old);
  end if;
  if old.state = 'refused' then
    raise exception 'a refused login is cleared by the owner alone' using errcode = 'insufficient_privilege';
  end if;
  if tg_op = 'UPDATE' and (new.token_serial <> old.token_serial or new.attempts_unknown < old.attempts_unknown) then
    raise exception 'an attempt to log in can not be unmade' using errcode = 'insufficient_privilege';
  end if;
  return coalesce(new, old);
end $$;

create trigger hsm_logins_hold before update or delete on hsm_logins for each row execute function hsm_logins_hold();

grant select on tenants, keys to cardex_service;
grant select, insert, update, delete on hsm_logins to cardex_service;
