# sidecache in an image of its binary, the few libraries that it is linked to, and certificate authorities: no shell, no
# package manager, no root.
#
#   docker build -t sidecache .
#   docker run --rm -p 8080:8080 -e ORIGIN_URL=http://backend:8000 sidecache

FROM rust:1.95-bookworm AS build
WORKDIR /build

# The dependencies first, with an empty program: this layer holds until Cargo.toml or Cargo.lock changes. Benchmarks and the
# like are named in the manifest and not here yet, so they are left out of it.
COPY Cargo.toml Cargo.lock ./
RUN cp Cargo.toml /tmp/Cargo.toml \
    && awk '/^\[/ { skip = /^\[\[(bench|test|example)\]\]/ } !skip' /tmp/Cargo.toml > Cargo.toml \
    && mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked \
    && cargo clean --release --locked --package sidecache \
    && rm -r src

COPY . .
RUN cargo build --release --locked --bin sidecache

# All that the binary needs at run time, in its place: the libraries that ldd names (glibc itself brings the resolver), the
# authorities for https and rediss, an account without rights, and a working directory that it cannot write to.
RUN set -eu; \
    install -D -m 755 target/release/sidecache /image/usr/local/bin/sidecache; \
    ldd target/release/sidecache | grep -o '/[^ ]*' | sort -u | while read -r library; do \
        install -D -m 755 "$library" "/image$library"; \
    done; \
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt; \
    echo 'sidecache:x:65532:65532::/app:/sbin/nologin' > /image/etc/passwd; \
    echo 'sidecache:x:65532:' > /image/etc/group; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf; \
    install -D -m 644 proxy.toml /image/app/proxy.toml; \
    install -D -m 644 -t /image/app/config config/*.toml

FROM scratch
COPY --from=build /image /

LABEL org.opencontainers.image.title="sidecache" \
      org.opencontainers.image.description="A caching reverse proxy that runs as a sidecar before an HTTP backend" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

# Mount your own proxy.toml over /app/proxy.toml, or name another file in SIDECACHE_CONFIG: the health check reads it too.
WORKDIR /app
USER 65532:65532
# The proxy; and the admin listener, which is on loopback until SIDECACHE_ADMIN_LISTEN says otherwise.
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/usr/local/bin/sidecache", "health"]
ENTRYPOINT ["/usr/local/bin/sidecache"]
