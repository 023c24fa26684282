# The image of Anklang: the program, the plugins beside it, and of Debian what both need.
#
#   docker build --tag registry.example.com/anklang:0.1.0 .
#
# helm/anklang/README.md tells more; scripts/image-check takes the steps of the last stage without a
# container engine, and knows no instructions but those here.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
COPY . .
# Symbols stay for backtraces, the rest of what debuggers want does not.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo cargo build --locked --release \
        -p anklang-server \
        -p anklang-plugin-mail \
        -p anklang-plugin-fax \
        -p anklang-plugin-sms \
        -p anklang-plugin-social \
    && install -D --target-directory=/out \
        target/release/anklang \
        target/release/libanklang_mail.so \
        target/release/libanklang_fax.so \
        target/release/libanklang_sms.so \
        target/release/libanklang_social.so

FROM debian:bookworm-slim
# The fax plugin wants Ghostscript as well: --build-arg PACKAGES="ca-certificates ghostscript"
ARG PACKAGES="ca-certificates"
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ${PACKAGES} \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
    && groupadd --gid 10001 anklang \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin anklang \
    && install --directory --owner=anklang --group=anklang /var/lib/anklang/documents \
    && ln -s ../lib/anklang/anklang /usr/local/bin/anklang
COPY --from=build /out/ /usr/local/lib/anklang/
COPY LICENSE NOTICE /usr/share/doc/anklang/
COPY third_party/holidays/LICENSE /usr/share/doc/anklang/holidays/
# It serves only with server.tls, or when plain text is asked for (docs/tls.md), and with auth.mode = "token", or when
# callers are not to be known (docs/identity.md).
ENV ANKLANG_SERVER__LISTEN="0.0.0.0:50051"
ENV ANKLANG_DOCUMENTS__FOLDER="/var/lib/anklang/documents"
WORKDIR /var/lib/anklang
USER 10001:10001
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=30s CMD ["anklang", "health"]
ENTRYPOINT ["anklang"]
CMD ["serve"]
