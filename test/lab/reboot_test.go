package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// The host reboots: a VM that ran is stopped, and can be started.
func TestReboot(t *testing.T) {
	scenario(t, func(h *host) {
		h.ok(dev, "banger run -q "+cheap+" --name one -- sh -c 'echo kept >/root/note; sync'")
		h.reboot()
		if got := h.ok(dev, "banger vm show one"); !strings.Contains(got, "stopped") {
			h.Errorf("after the reboot:\n%s", got)
		}
		if got := h.ok(dev, "banger start -q one >/dev/null && banger exec one -- cat /root/note"); got != "kept" {
			h.Errorf("started again, it says %q", got)
		}
		h.ok(dev, "banger rm --force one && banger daemon stop")
	})
}

// The host is reset in the middle of a start, where the start stands still: nothing is
// synced, nothing is ended, nothing is unmounted. Each time all VMs are stopped, and are
// what they were; nothing of them is there but what is theirs at rest; and all can be
// started, from that state and not from another.
func TestReset(t *testing.T) {
	scenarioWithin(t, 3*limit, func(h *host) {
		before := h.left()
		b := &box{host: h}
		b.build()
		h.patient() // and what is installed so far is no part of it
		b.up()
		h.ok(dev, make1+" && banger vm create -q "+cheap+" --no-start --name two")
		was := h.place("one") + h.place("two")
		instants := []spot{
			{"attach disk", "after ensure", 1}, // loop and mapper devices are there
			{"guest", "before ensure", 1},      // Firecracker runs, and who that is, is recorded; its guest boots
		}
		if os.Getenv("LAB") == "full" { // each costs a boot from the disk
			instants = append(instants, spot{"vmm", "before ensure", 1}, spot{"vmm", "after ensure", 1})
		}
		for _, at := range instants {
			hit := b.expect(at, true)
			h.ok(dev, "banger start -q one >/dev/null 2>&1 </dev/null &")
			b.await(hit, at.String())
			if got := h.ok(dev, "banger vm list -o json | tr -d ' \n'"); !strings.Contains(got, `"state":"starting"`) {
				h.Errorf("%s nothing is starting: %s", at, got)
			}
			h.reset()
			if got := h.left(); got != before {
				h.Errorf("reset %s, there are\n%s\nand before\n%s", at, got, before)
			}
			b.listen()
			h.ok(dev, "sudo -n "+rootProgram)
			b.expect(spot{}, false)
			b.up()
			if got := h.ok(dev, `banger vm list -o json | grep -c '"state": "stopped"'`); got != "2" {
				h.Errorf("reset %s, %s VMs are stopped:\n%s", at, got, h.ok(dev, "banger ps -a"))
			}
			if got := h.place("one") + h.place("two"); got != was {
				h.Errorf("reset %s, they are %s, and were %s", at, got, was)
			}
			if got := h.ok(root, "ls /home/dev/.local/state/banger/vms/*/ | sort -u | tr '\n' ' '"); strings.Contains(got, "sock") {
				h.Errorf("reset %s, the VMs' directories have %s", at, got)
			}
		}
		h.ok(dev, "banger start -q one two")
		if got := h.ok(dev, "banger exec one -- hostname; banger exec two -- hostname"); got != "one\ntwo" {
			h.Errorf("started, they say %q", got)
		}
		h.ok(dev, "banger rm --force one two && banger daemon stop")
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}

// listen listens for what the daemon asks; again, in a login of after a boot.
func (b *box) listen() {
	b.Helper()
	b.ok(dev, "rm -f faults")
	l, err := b.users[dev].ListenUnix("/home/dev/faults")
	must(b.T, err)
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.answer(c)
		}
	}()
}

const bootID = "cat /proc/sys/kernel/random/boot_id"

// reboot reboots the host, as its administrator would, and waits until it is back.
func (h *host) reboot() {
	h.Helper()
	h.patient()
	before := h.ok(root, bootID)
	h.ok(root, "systemctl --no-block reboot")
	h.back(before)
}

// reset reboots the host at once, as a power cut would, and waits until it is back.
func (h *host) reset() {
	h.Helper()
	before := h.ok(root, bootID)
	c, done := h.users[root], make(chan struct{})
	delete(h.users, root)
	go func() { // it does not come to answer
		defer close(done)
		_, _ = h.m.command(h.ctx, c, "echo b >/proc/sysrq-trigger", streams{})
	}()
	h.back(before)
	c.Close()
	<-done
}

// runs reports whether the machine has not ended, and its kernel not died.
func (m *machine) runs() bool {
	select {
	case <-m.ended:
		return false
	case <-m.dead:
		return false
	default:
		return true
	}
}

// patient gives a boot time on a machine that has much else to do, where systemd's 90 s
// are little; and syncs.
func (h *host) patient() {
	h.Helper()
	h.ok(root, `for manager in system user; do
	mkdir -p /etc/systemd/$manager.conf.d && printf '[Manager]\nDefaultTimeoutStartSec=10min\nDefaultDeviceTimeoutSec=10min\n' >/etc/systemd/$manager.conf.d/lab.conf
done; sync`)
}

// back waits until the host is there with another boot ID, in new logins.
func (h *host) back(before string) {
	h.Helper()
	for user := range h.users {
		h.logOut(user)
	}
	for h.users[root] == nil { // it may come in before sshd has ended
		c, err := h.m.connect(h.ctx, root)
		if err != nil && h.m.runs() && h.ctx.Err() == nil {
			continue // its limit is for a machine that does nothing but boot
		}
		if err != nil {
			h.lost(err)
		}
		var id bytes.Buffer
		if _, err := h.m.command(h.ctx, c, bootID, streams{out: &id}); err == nil && strings.TrimSpace(id.String()) != before {
			h.users[root] = c
		} else {
			c.Close()
		}
	}
	h.ok(root, "systemctl is-system-running --wait")
}
