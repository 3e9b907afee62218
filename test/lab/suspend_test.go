package main

import (
	"strings"
	"testing"
)

// The host sleeps, by its own suspend to RAM, and wakes up on another day: VMs, names,
// ports and addresses are what they were, by the same processes.
func TestSuspend(t *testing.T) {
	scenario(t, func(h *host) {
		h.world()
		h.ok(dev, `banger run -q `+cheap+` --name web --network routed --publish 8080:80 --publish 0.0.0.0:8081:80 -- sh -c 'mkdir /tmp/www && echo from web >/tmp/www/index.html && httpd -h /tmp/www'`)
		address := h.address("web")
		processes := func() string {
			return h.ok(root, "ps -eo pid=,comm= | grep -E ' (banger|qemu)' | sort -n")
		}
		// But for the guests' numbers of connections, which the kernel keeps in sets.
		const made = "ip -o -4 address; ip -4 route show table all; nft -s list ruleset | grep -E 'chain|accept|drop|jump|goto|dnat|masquerade'"
		before, network := processes(), h.ok(root, made)
		whole := func(when string) {
			h.Helper()
			h.resolves(address, when)
			h.reaches("web", when)
			for _, get := range []string{"curl -sS --max-time 60 http://127.0.0.1:8080/", "curl -sS --max-time 60 http://web.vm/", "ip netns exec inet curl -sS --max-time 60 http://198.51.100.2:8081/"} {
				if got := h.as(root, get); got.out != "from web\n" {
					h.Errorf("%s: %s: %+v", when, get, got)
				}
			}
			if got := h.ok(dev, "banger exec web -- hostname; banger exec web -- nslookup web.vm"); !strings.HasPrefix(got, "web\n") || !strings.Contains(got, address) {
				h.Errorf("%s: in the VM: %s", when, got)
			}
			if got := h.ok(dev, "banger ps"); !strings.Contains(got, "running") {
				h.Errorf("%s: %s", when, got)
			}
			if got := h.address("web"); got != address {
				h.Errorf("%s: its address is %s, and was %s", when, got, address)
			}
			if got := processes(); got != before {
				h.Errorf("%s: the processes are\n%s\nand were\n%s", when, got, before)
			}
			if got := h.ok(root, made); got != network {
				h.Errorf("%s: the network is\n%s\nand was\n%s", when, got, network)
			}
		}
		whole("at first")
		const slept = "cat /sys/power/suspend_stats/success" // times
		awake := h.ok(root, slept)
		h.ok(root, "rtcwake -m mem -s 5 >/dev/null")
		if got := h.ok(root, slept); got == awake {
			h.Errorf("the host has slept %s times, and %s before: the test shows nothing", got, awake)
		}
		whole("after a sleep")
		h.ok(root, "date -s @$(($(date +%s) + 30 * 3600)) >/dev/null")
		whole("on another day")
		h.ok(dev, "banger rm --force web && banger daemon stop")
	})
}
