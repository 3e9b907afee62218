package main

import (
	"testing"
)

// Routed networks with a real sudo: both programs killed, and everything gone in the end.
func TestRouted(t *testing.T) {
	scenario(t, func(h *host) {
		before := h.left()
		h.ok(dev, "banger run "+cheap+" --name one --network routed -- true")
		pings := func(vm string) {
			h.Helper()
			h.ok(dev, `ping -c 1 -W 20 "$(banger vm show `+vm+` -o json | sed -n 's/.*"address": "\([0-9.]*\).*/\1/p' | head -n 1)"`)
		}
		pings("one")
		h.ok(root, "kill -9 $(pgrep -x bangerd)")
		if got := h.ok(dev, "banger exec one -- hostname"); got != "one" {
			h.Errorf("after a kill of bangerd exec says %q", got)
		}
		h.ok(root, "kill -9 $(pgrep -x banger-root)")
		pings("one")
		h.ok(dev, "banger run "+cheap+" --name two --network routed -- true")
		pings("two")
		h.ok(dev, "banger rm --force one two && banger daemon stop")
		h.ok(root, `pid=$(pgrep -x banger-root); kill $pid; timeout 60 tail --pid=$pid -f /dev/null`)
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}

// NAME.vm by the host's own resolver, which is systemd-resolved.
func TestNames(t *testing.T) {
	scenario(t, func(h *host) {
		if r := h.as(dev, "banger dns status; banger dns install | sh"); r.code != 0 {
			h.Fatalf("dns install: %+v", r)
		}
		h.ok(dev, "banger run "+cheap+" --name web --network routed -- true")
		address := h.ok(dev, "banger vm show web -o json | sed -n 's/.*\"address\": \"\\([0-9.]*\\).*/\\1/p' | head -n 1")
		if got := h.ok(dev, "getent hosts web.vm"); got == "" || got[:min(len(address), len(got))] != address {
			h.Errorf("web.vm is %q, not %q", got, address)
		}
		h.ok(dev, "banger rm --force web")
		if r := h.as(dev, "getent hosts web.vm"); r.code != 2 {
			h.Errorf("after rm: %+v", r)
		}
		h.ok(dev, "banger dns uninstall | sh; banger daemon stop")
		if r := h.as(root, "ls /etc/systemd/resolved.conf.d/banger.conf"); r.code == 0 {
			h.Errorf("after uninstall: %+v", r)
		}
	})
}
