# syntax=docker/dockerfile:1
# docker build -t cardex .                       the server, for production: brings no HSM library
# docker build -t cardex-dev --target development .   with SoftHSM2, for a try

# The packages as the lock file names them; native code is built against the headers beside Node.
FROM node:20.20.2-bookworm-slim AS deps
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 make g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /cardex
COPY package.json package-lock.json ./
RUN npm_config_nodedir=/usr/local npm ci --no-audit --no-fund \
 && test -f node_modules/pkcs11js/build/Release/pkcs11.node

FROM deps AS build
COPY buf.yaml buf.gen.yaml tsconfig.json ./
COPY proto proto
COPY src src
COPY hsm hsm
COPY deploy deploy
COPY test test
RUN npx buf generate \
 && npx tsc -p . \
 && node -e 'import("/cardex/deploy/copy-assets.mjs").then(({ copyAssets }) => copyAssets())' \
 && find dist -name '*.test.*' -delete \
 && rm -rf dist/test \
 && npm prune --omit=dev --no-audit --no-fund

# Mount or add the vendor's PKCS#11 library, the configuration (/etc/cardex/cardex.json), certificates and the PIN file.
FROM node:20.20.2-bookworm-slim AS runtime
ENV NODE_ENV=production
WORKDIR /cardex
COPY --from=build /cardex/package.json ./
COPY --from=build /cardex/node_modules node_modules
COPY --from=build /cardex/dist dist
COPY deploy/probe.mjs deploy/
RUN groupadd --system --gid 10001 cardex \
 && useradd --system --uid 10001 --gid cardex --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin cardex
USER 10001:10001
EXPOSE 7443
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["node", "/cardex/deploy/probe.mjs"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "--enable-source-maps", "/cardex/dist/src/cli/cardex.js"]
CMD ["serve", "--config", "/etc/cardex/cardex.json"]

# SoftHSM2 keeps keys in files: the server refuses it in the production profile.
FROM runtime AS development
USER root
RUN apt-get update \
 && apt-get install --yes --no-install-recommends softhsm2 \
 && rm -rf /var/lib/apt/lists/*
USER 10001:10001

# What is built when no target is named.
FROM runtime
