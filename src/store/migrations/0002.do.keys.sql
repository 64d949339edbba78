-- Tenants, the register of keys (never key material: that is in the HSM), and refused logins to the HSM.

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

-- A PIN that a token refused is not tried again by anybody until the owner deletes the row: tokens lock after a few.
create table hsm_login_refusals (
  token_serial text primary key,
  refused_at   timestamptz not null default now(),
  host         text not null,
  process      integer not null
);

grant select on tenants, keys to cardex_service;
grant select, insert on hsm_login_refusals to cardex_service;
