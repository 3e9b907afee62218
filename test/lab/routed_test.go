package main

import "testing"

// Routed networks with a real sudo: both programs killed, and everything gone in the end.
func TestRouted(t *testing.T) {
	scenario(t, func(h *host) {
		before := h.left()
		h.ok(dev, "banger run "+cheap+" --name one --network routed -- true")
		pings := func(vm string) {
			h.Helper()
			h.ok(dev, "ping -c 1 -W 20 "+h.address(vm))
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
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}
