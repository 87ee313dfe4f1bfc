# One image each for the operator and the chat server:
#   docker build --target operator   -t chatcluster/operator .
#   docker build --target chatserver -t chatcluster/chatserver .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY chatserver chatserver
COPY cmd cmd
COPY controllers controllers
ARG VERSION=0.1.0
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/ ./cmd/operator ./cmd/chatserver

# Nothing but the binary and the public CAs: no shell, no package manager.
FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532

FROM base AS operator
COPY --from=build /out/operator /operator
ENTRYPOINT ["/operator"]

FROM base AS chatserver
COPY --from=build /out/chatserver /chatserver
ENTRYPOINT ["/chatserver"]
