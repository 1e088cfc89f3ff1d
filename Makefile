# postraft: build, check, measure, install. `make help` lists the targets.

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PREFIX    ?= /usr/local
DESTDIR   ?=
SBINDIR    = $(DESTDIR)$(PREFIX)/sbin
MANDIR     = $(DESTDIR)$(PREFIX)/share/man
UNITDIR    = $(DESTDIR)/lib/systemd/system
USERSDIR   = $(DESTDIR)/usr/lib/sysusers.d
DOCDIR     = $(DESTDIR)$(PREFIX)/share/doc/postraft
SHAREDIR   = $(DESTDIR)$(PREFIX)/share/postraft
# Postfix starts services from its daemon directory only (master(5)).
DAEMONDIR ?= $(shell postconf -h daemon_directory 2>/dev/null || echo /usr/lib/postfix/sbin)

GO          ?= go
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
LDFLAGS      = -s -w -X main.version=$(VERSION)
FUZZTIME    ?= 60s
DURATION    ?= 1h
SEED        ?=
BENCH       ?=
BENCHDIR     = bin/bench

.PHONY: help build run test vet lint unit postfix bench chaos fuzz install clean

help:
	@echo 'build    bin/postraft and bin/postraft-proxymap'
	@echo 'run      build, then a three-node cluster on loopback; Ctrl-C ends it'
	@echo 'test     every check, with the race detector and a genuine Postfix'
	@echo 'bench    measures postraft beside the stock proxymap, etcd and postmap, and its parts: a quarter of an hour, report in'
	@echo '         bin/bench; some of it in short: make bench BENCH="--only lookups --rounds 3"; BENCH=--list shows all'
	@echo 'chaos    five agents for DURATION (default 1h) while everything around them fails, as SEED says'
	@echo 'fuzz     each fuzz target for FUZZTIME (default 60s)'
	@echo 'install  into DESTDIR and PREFIX (default /usr/local)'

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/postraft ./cmd/postraft
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/postraft-proxymap ./cmd/postraft-proxymap

run: build
	@exec bin/postraft dev

test: postfix vet lint unit

vet:
	@test -z "$$(gofmt -l cmd cluster fsm proxy dict ops)" || { echo 'gofmt would change:'; gofmt -l cmd cluster fsm proxy dict ops; exit 1; }
	$(GO) vet ./...
	$(GO) mod verify >/dev/null
	$(GO) mod tidy -diff

lint:
	@sh .ci/staticcheck '$(GO)' '$(STATICCHECK)'

unit: build
	@sh .ci/test '$(GO)' -race -shuffle=on -timeout 9m ./...

# The end-to-end tests need a Postfix to talk to.
postfix:
	@sh .ci/postfix

# See cmd/bench/doc.go for the settings. With any the benchmarks of the parts are left out.
bench: build
	@sh .ci/bench
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/postraft-bench ./cmd/bench
	@bin/postraft-bench --out $(BENCHDIR) $(BENCH)
	@test -n '$(BENCH)' || sh .ci/parts '$(GO)' $(BENCHDIR)

# See cmd/chaos/doc.go for the other settings.
chaos:
	CHAOS_DURATION=$(DURATION) CHAOS_SEED=$(SEED) $(GO) test -v -count=1 -timeout 0 -run '^TestCluster_KeepsItsPromises$$' ./cmd/chaos

fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "fuzz $$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

# Where there is no go, as behind sudo on many systems, what "make build" has made is installed.
install: $(if $(shell command -v $(GO) 2>/dev/null),build)
	@test -x bin/postraft && test -x bin/postraft-proxymap || { echo 'bin/postraft is missing and there is no $(GO) here: run "make build" first, as a user who has it' >&2; exit 1; }
	install -d $(SBINDIR) $(MANDIR)/man1 $(MANDIR)/man5 $(MANDIR)/man7 $(MANDIR)/man8 $(UNITDIR) $(USERSDIR) $(DOCDIR) $(SHAREDIR)/grafana $(SHAREDIR)/prometheus
	install -m 755 bin/postraft bin/postraft-proxymap $(SBINDIR)
	install -m 644 ops/dist/man/*.1 $(MANDIR)/man1
	install -m 644 ops/dist/man/*.5 $(MANDIR)/man5
	sed 's|/usr/local/share|$(PREFIX)/share|' ops/dist/man/postraft-metrics.7 > $(MANDIR)/man7/postraft-metrics.7
	install -m 644 ops/dist/man/postraft-operations.7 $(MANDIR)/man7
	install -m 644 ops/dist/man/*.8 $(MANDIR)/man8
	sed 's|/usr/local/sbin|$(PREFIX)/sbin|' ops/dist/postraft.service > $(UNITDIR)/postraft.service
	install -m 644 ops/dist/postraft.sysusers.conf $(USERSDIR)/postraft.conf
	install -m 644 ops/dist/grafana/postraft.json $(SHAREDIR)/grafana
	sed 's|/usr/local/share|$(PREFIX)/share|' ops/dist/prometheus/postraft.rules.yml > $(SHAREDIR)/prometheus/postraft.rules.yml
	install -m 644 README.md ops/dist/postraft.cf.example ops/dist/postfix/*.example $(DOCDIR)
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	bin/postraft completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/postraft
	bin/postraft completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_postraft
	bin/postraft completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/postraft.fish
	install -d $(DESTDIR)$(DAEMONDIR)
	ln -sfn $(PREFIX)/sbin/postraft-proxymap $(DESTDIR)$(DAEMONDIR)/postraft-proxymap

clean:
	rm -rf bin
