package main

import (
	"strings"
	"testing"
)

// NAME.vm by the host's own resolver, which is systemd-resolved: while the VM and the
// daemon run, and without a trace or a delay once one of them does not.
func TestDNS(t *testing.T) {
	scenario(t, func(h *host) {
		before, resolved := h.left(), h.resolved()
		h.ok(dev, "banger run -q "+cheap+" --name web --network routed -- true")
		address := h.address("web")
		h.resolves(address, "while it runs")
		h.ssh(`-p 5122 -i ~/.local/state/banger/id_ed25519 -o StrictHostKeyChecking=yes -o UserKnownHostsFile=$HOME/.local/state/banger/ssh/known_hosts -o HostKeyAlias=banger-` +
			h.ok(dev, `banger vm show web -o json | sed -n 's/.*"id": "\([0-9a-f]*\)".*/\1/p' | head -n 1`))

		h.ok(dev, "banger daemon stop")
		h.unknown("without a daemon")
		h.ok(dev, "banger ps")
		h.resolves(address, "under the next daemon")
		h.ok(root, "kill -9 $(pgrep -x bangerd)")
		h.unknown("after the daemon was killed")
		h.ok(dev, "banger ps")
		h.resolves(address, "under the one after that")

		h.ok(dev, "banger dns install | sh && banger ssh-config install")
		h.resolves(address, "with the file, too")
		h.ssh("")
		h.ok(dev, "banger rm --force web")
		h.unknown("after rm")
		h.ok(dev, "banger dns uninstall | sh; banger ssh-config uninstall; banger daemon stop")
		h.endRoot()
		if after := h.resolved(); after != resolved {
			h.Errorf("systemd-resolved says\n%s\nand before\n%s", after, resolved)
		}
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}

// resolved is what systemd-resolved has been told, without the links' numbers.
func (h *host) resolved() string {
	h.Helper()
	return h.ok(root, "resolvectl domain | sed 's/^Link [0-9]* //'; resolvectl dns | sed 's/^Link [0-9]* //'; ls /etc/systemd/resolved.conf.d 2>/dev/null; exit 0")
}

// resolves fails unless web.vm has this address, in the end: the daemon begins to say
// it when it has told its client that it is there.
func (h *host) resolves(address, when string) {
	h.Helper()
	r := h.as(dev, "for i in $(seq 60); do getent hosts web.vm && exit; sleep 0.5; done; exit 2")
	if got := strings.Fields(r.out); len(got) != 2 || got[0] != address || got[1] != "web.vm" {
		h.Errorf("%s web.vm is %+v, not %s\n%s", when, r, address, h.resolved())
	}
}

// unknown fails unless nobody knows web.vm, in the end, and whoever asks then need not
// wait for a server that is not there.
func (h *host) unknown(when string) {
	h.Helper()
	r := h.as(dev, "for i in $(seq 60); do timeout 60 getent hosts web.vm; code=$?; [ $code = 0 ] || exit $code; sleep 0.5; done")
	if r.code != 2 {
		h.Errorf("%s asking for web.vm ends with %+v\n%s", when, r, h.resolved())
	}
}

// ssh fails unless ssh(1) comes to web by its name.
func (h *host) ssh(flags string) {
	h.Helper()
	if got := h.ok(dev, "ssh -o BatchMode=yes "+flags+" root@web.vm hostname"); got != "web" {
		h.Errorf("by ssh it is %q", got)
	}
}
