# isoflop in a container: a small image with the program and nothing else that runs.
#
#     docker build -t isoflop .
#     docker run --rm -v "$PWD:/work" isoflop demo
#     docker run -d -p 127.0.0.1:8080:8080 -v "$PWD:/work" isoflop watch isoflop-demo --address 0.0.0.0 --token token
#
# Limits given to the container (--memory, --cpus) are what isoflop sees as the machine. With `--gpus all` and NVIDIA's
# container toolkit the driver's libraries are there, which it loads at run time. tools/image.sh makes a smaller image,
# from scratch, that cannot load any.

# The tags say what the digests are: indexes for several processors, of Rust 1.95 and of Debian 12.15. Another base is
# another tag and its digest (`docker buildx imagetools inspect TAG`), together.
FROM rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p isoflop \
    && install -D target/release/isoflop /out/isoflop

FROM debian:bookworm-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171
LABEL org.opencontainers.image.title="isoflop" \
      org.opencontainers.image.description="A scaling-law laboratory in one binary" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
RUN useradd --create-home --uid 1000 isoflop && install -d -o isoflop -g isoflop /work
COPY --from=build /out/isoflop /usr/local/bin/isoflop
COPY tools/healthcheck.sh /usr/local/bin/isoflop-healthcheck
# By its number, which an orchestrator that forbids root can check.
USER 1000:1000
WORKDIR /work
VOLUME /work
# Of `isoflop watch` whether its page answers; other verbs are healthy while they run.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 CMD ["isoflop-healthcheck"]
ENTRYPOINT ["isoflop"]
CMD ["--help"]
