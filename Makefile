# make demo: from nothing to a VM and back. make test: all that proves banger.
# What this machine lacks is installed first (scripts/need says what and why).
SHELL := /bin/bash
GO := scripts/go
export CGO_ENABLED := 0

RUN_PACKAGES := qemu-system-x86 qemu-utils mmdebstrap uidmap e2fsprogs openssh-client ca-certificates
TEST_PACKAGES := $(RUN_PACKAGES) passt shellcheck rsync busybox-static gcc libc6-dev bash-completion zsh fish bind9-dnsutils dnsmasq-base iproute2 iptables nftables procps dbus-daemon python3-pip

build: ## bin/banger, bin/bangerd, bin/banger-root, bin/banger-guest
	@scripts/build

demo: ## boot a VM, look around in it, delete it
	@scripts/need "make demo" $(RUN_PACKAGES)
	@scripts/demo

check: ## the fast part: format, vet, lint, architecture, unit tests with the race detector
	@scripts/need "make check" $(TEST_PACKAGES)
	@scripts/check

test: ## everything: check, scripts against a real daemon, real VMs
	@scripts/need "make test" $(TEST_PACKAGES)
	@scripts/test

lab: ## scenarios in an emulated machine that has KVM and Firecracker; ONLY=TestX for some of them
	@scripts/need "make lab" $(TEST_PACKAGES)
	@scripts/test lab "$(ONLY)"

lab-shell: build ## a shell in that machine; what was built is in /lab/bin
	@scripts/lab shell --dir bin

bench: build ## the ratios of docs/benchmarks.md; ONLY=cp,ps for some of them, which are not kept
	@scripts/need "make bench" $(TEST_PACKAGES) curl nftables procps dnsperf iperf3
	@$(GO) run ./test/bench $(if $(ONLY),-only $(ONLY),-json docs/bench.json)

lab-bench: build ## the ratios of Firecracker, measured in the lab (docs/bench-lab.json); BOOTS=3 for fewer rounds
	@scripts/need "make lab-bench" $(TEST_PACKAGES)
	@$(GO) run ./test/bench -only lab -boots $(or $(BOOTS),5) -json docs/bench-lab.json

man: build ## man pages into bin/man
	@mkdir -p bin/man && bin/banger man bin/man

clean: ## what was built; runtime bundles stay
	@rm -rf bin

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

.PHONY: build demo check test bench lab-bench man clean help lab lab-shell
