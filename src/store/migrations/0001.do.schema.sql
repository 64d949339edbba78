-- The schema and its three roles exist already (store/migrate.ts makes them, since roles belong to the whole cluster).
-- Each later migration grants cardex_service what it needs, and nothing more; nothing is granted to PUBLIC.

REVOKE ALL ON SCHEMA cardex FROM PUBLIC;
GRANT USAGE ON SCHEMA cardex TO cardex_service, cardex_auditor;
ALTER DEFAULT PRIVILEGES IN SCHEMA cardex REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- The service tells at its start, and doctor tells, which migrations have run.
GRANT SELECT ON schemaversion TO cardex_service;
