# steermap for CPUs: mistralrs-steered, the server, and mapper.
#
#   docker build -t steermap .
#   docker run --rm -p 127.0.0.1:1234:1234 -e STEERING_TOKEN=secret steermap      # http://localhost:1234/playground
#
# The programs are compiled for TARGET_CPU. x86-64-v3 is x86 with AVX2; kernels that choose their instructions at run time use AVX-512
# if the processor has it. On ARM: --build-arg TARGET_CPU=generic
#
# BUILD.txt in the image has the commit with --build-arg COMMIT="$(git rev-parse HEAD)", since .dockerignore leaves out the history.

# Both images have the same Debian, since the programs need the C library that they were built with, or a newer one.
ARG BUILD_IMAGE=rust:1.95-slim-trixie
ARG BASE_IMAGE=debian:trixie-slim

FROM ${BUILD_IMAGE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG TARGET_CPU=x86-64-v3
ARG COMMIT=
# The caches keep everything that cargo has fetched and built for the next build of the image. Packages of earlier versions are removed, so
# that the pattern below matches one folder. The package is copied out of the cache.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    rm -rf /package target/dist/steermap-* && \
    STEERMAP_COMMIT="${COMMIT}" cargo xtask dist --target-cpu "${TARGET_CPU}" && \
    cp -r target/dist/steermap-*-"${TARGET_CPU}"/ /package

FROM ${BASE_IMAGE}
# Certificates are needed to fetch models from a hub, and curl for health checks and reloads.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home steermap && install --directory --owner steermap /state
COPY --from=build /package /opt/steermap
ENV PATH=/opt/steermap:${PATH}
# A number, so that Kubernetes can check that it is not root.
USER 10001
WORKDIR /opt/steermap
EXPOSE 1234
# The server does not answer while the models load, and answers 503 while a model is not loaded.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:1234/health"]
ENTRYPOINT ["mistralrs-steered"]
CMD ["serve", "--config", "examples/serving/container.toml"]
