# steermap for CPUs: mistralrs-steered, which serves, and mapper.
#
#   docker build -t steermap .
#   docker run --rm -p 127.0.0.1:1234:1234 -e STEERING_TOKEN=secret steermap      # http://localhost:1234/playground
#
# TARGET_CPU is what the programs are compiled for. x86-64-v3 is x86 with AVX2; kernels that choose their instructions at run time
# use AVX-512 all the same where the processor has it. On ARM: --build-arg TARGET_CPU=generic

# Both of one Debian: the programs need the C library that they are built with, or a newer one.
ARG BUILD_IMAGE=rust:1.95-slim-trixie
ARG BASE_IMAGE=debian:trixie-slim

FROM ${BUILD_IMAGE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG TARGET_CPU=x86-64-v3
# What BUILD.txt states: --build-arg COMMIT="$(git rev-parse HEAD)"
ARG COMMIT=
# What cargo has fetched and built is kept for the next build of the image; the package is not in there.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    rm -rf /package target/dist/steermap-* && STEERMAP_COMMIT="${COMMIT}" cargo xtask dist --target-cpu "${TARGET_CPU}" && cp -r target/dist/steermap-*-"${TARGET_CPU}"/ /package

FROM ${BASE_IMAGE}
# Certificates: models may come from a hub. curl: asks for the server's health, and tells it to read its configuration again.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home steermap && install --directory --owner steermap /state
COPY --from=build /package /opt/steermap
ENV PATH=/opt/steermap:${PATH}
# A number, so that Kubernetes sees that it is not root.
USER 10001
WORKDIR /opt/steermap
EXPOSE 1234
# While the models load nothing answers; a model that is not loaded is a 503.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:1234/health"]
ENTRYPOINT ["mistralrs-steered"]
CMD ["serve", "--config", "examples/serving/container.toml"]
