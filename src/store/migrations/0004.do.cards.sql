-- Cards, tokens, index codes, and what makes mutations idempotent. The tenant is the first column of every key, every
-- key is made by the application, and no statement joins over tenants, so that the tables can be spread over shards.

create table cards (
  tenant          text        not null,
  card_id         uuid        not null,
  -- PAN and cardholder's name, AES-256-GCM by the HSM; format: vault/sealed-card.ts
  sealed          bytea       not null,
  pan_key_version integer     not null,
  -- truncated as PCI SSC FAQ 1091 allows
  bin             text        not null check (bin ~ '^[0-9]{0,8}$'),
  last_four       text        not null check (last_four ~ '^[0-9]{2,4}$'),
  pan_length      smallint    not null check (pan_length between 8 and 19),
  brand           smallint    not null,
  type            smallint    not null,
  country         text        not null,
  expiry          integer     not null check (expiry between 200001 and 209912 and expiry % 100 between 1 and 12),
  status          smallint    not null default 1 check (status in (1, 2, 3, 4, 6)),
  version         bigint      not null default 1,
  created_at      timestamptz not null default clock_timestamp(),
  updated_at      timestamptz not null default clock_timestamp(),
  primary key (tenant, card_id)
) with (fillfactor = 90);

-- Unique per tenant and key version: the same PAN can never become two cards.
create table card_fingerprints (
  tenant      text     not null,
  key_version integer  not null,
  fingerprint bytea    not null check (length(fingerprint) = 32),
  card_id     uuid     not null,
  primary key (tenant, key_version, fingerprint)
);

-- Rows stay for ever: a code is never issued again.
create table index_codes (
  tenant     text        not null,
  code       text        not null check (code ~ '^[0-9]{16}$'),
  card_id    uuid        not null,
  created_at timestamptz not null default clock_timestamp(),
  -- null: current; later: the old code's grace period ends then
  expires_at timestamptz,
  primary key (tenant, code)
);
create unique index index_codes_current on index_codes (tenant, card_id) where expires_at is null;

create table tokens (
  tenant             text        not null,
  token              text        not null,
  card_id            uuid        not null,
  format             smallint    not null,
  keep_last_four     boolean     not null,
  scope              text        not null,
  reused             boolean     not null,
  external_reference text        not null,
  created_by         text        not null,
  created_at         timestamptz not null default clock_timestamp(),
  expires_at         timestamptz,
  uses_max           integer     not null default 0,
  uses_left          integer     not null default 0 check (uses_left >= 0),
  revoked_at         timestamptz,
  primary key (tenant, token)
) with (fillfactor = 95);
create unique index tokens_reused on tokens (tenant, card_id, scope, format, keep_last_four) where reused and revoked_at is null;
create index tokens_of_card on tokens (tenant, card_id, created_at);

-- One change to a card. xid orders events by visibility: a reader that takes only xid < pg_snapshot_xmin(pg_current_snapshot())
-- never misses one that commits late.
create table card_events (
  tenant   text        not null,
  event_id uuid        not null,
  card_id  uuid        not null,
  kind     text        not null,
  detail   jsonb       not null,
  at       timestamptz not null default clock_timestamp(),
  xid      xid8        not null default pg_current_xact_id(),
  primary key (tenant, event_id)
);

create table requests (
  tenant     text        not null,
  principal  text        not null,
  rpc        text        not null,
  request_id uuid        not null,
  -- HMAC by the HSM's `request` key: a plain hash would be a hash of the PAN
  mac        bytea       not null check (length(mac) = 32),
  answer     bytea,
  at         timestamptz not null default clock_timestamp(),
  primary key (tenant, principal, rpc, request_id)
) with (fillfactor = 80);
create index requests_at on requests using brin (at);

grant select, insert on cards, card_fingerprints, index_codes, tokens, card_events, requests to cardex_service;
grant update (sealed, pan_key_version, expiry, status, version, updated_at, brand, type, country) on cards to cardex_service;
grant update (expires_at) on index_codes to cardex_service;
grant update (uses_left, revoked_at) on tokens to cardex_service;
grant update, delete on requests to cardex_service;
