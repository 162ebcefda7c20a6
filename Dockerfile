# isoflop in a container: a small image with the program and nothing else that runs.
#
#     docker build -t isoflop .
#     docker run --rm -v "$PWD:/work" isoflop demo
#
# Limits given to the container (--memory, --cpus) are what isoflop sees as the machine. The program has no GPU kernels
# yet; with `--gpus all` and NVIDIA's container toolkit it reads the cards' counters.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p isoflop \
    && install -D target/release/isoflop /out/isoflop

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="isoflop" \
      org.opencontainers.image.description="A scaling-law laboratory in one binary" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
RUN useradd --create-home --uid 1000 isoflop && install -d -o isoflop -g isoflop /work
COPY --from=build /out/isoflop /usr/local/bin/isoflop
USER isoflop
WORKDIR /work
VOLUME /work
ENTRYPOINT ["isoflop"]
CMD ["--help"]
