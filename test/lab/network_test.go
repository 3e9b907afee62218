package main

import (
	"strings"
	"testing"
)

// world gives the host an uplink, in the place of the one that it came with: a
// namespace "inet" with a server, which knows a way back to the host alone and is its
// LAN, too.
//
//	host 198.51.100.2 ── 198.51.100.1 inet, 203.0.113.9:80
func (h *host) world() {
	h.Helper()
	h.ok(root, `set -e
ip netns add inet
ip link add up0 type veth peer name host0 netns inet
ip address add 198.51.100.2/24 dev up0
ip link set up0 up
ip -n inet address add 198.51.100.1/24 dev host0
ip -n inet address add 203.0.113.9/32 dev lo
ip -n inet link set lo up
ip -n inet link set host0 up
ip route replace default via 198.51.100.1 dev up0
mkdir /srv/www
echo from afar >/srv/www/index.html
systemd-run -q --unit afar ip netns exec inet python3 -u -m http.server --directory /srv/www 80
curl -sS --retry 600 --retry-connrefused --retry-delay 1 -o /dev/null http://203.0.113.9/`)
}

// get asks the server, in a VM; busybox's wget does not live there.
const get = `printf "GET / HTTP/1.0\r\n\r\n" | nc -w 10 203.0.113.9 80`

// reaches fails unless a VM gets the server's page, in the end: rules that others
// take away are put back when banger hears of it.
func (h *host) reaches(vm, when string) {
	h.Helper()
	r := h.as(dev, `banger exec `+vm+` -- sh -c 'for i in 1 2 3 4 5 6; do `+get+` | grep "from afar" && exit 0; done; exit 1'`)
	if r.code != 0 || r.out != "from afar\n" {
		h.Errorf("%s: the VM reaches nothing: %+v\n%s", when, r, h.as(root, "iptables-save -c -t filter; nft list ruleset; sysctl -a --pattern 'conf.*[.]forwarding'").out)
	}
}

// firewall is what others' programs have set: rules, and what is forwarded.
func (h *host) firewall() string {
	h.Helper()
	return h.ok(root, `for save in iptables-save ip6tables-save; do $save | sed -e '/^#/d' -e 's/\[[0-9]*:[0-9]*\]//'; done
nft list tables
sysctl -a --pattern '^net[.]ipv[46][.](ip_forward$|conf[.].*[.](forwarding|rp_filter)$)|^net[.]bridge'`)
}

// A VM reaches the world as the host's, by an uplink of the host's, beside the real
// Docker and ufw, whatever they do meanwhile; and of them nothing has changed in the end.
func TestNAT(t *testing.T) {
	scenario(t, func(h *host) {
		h.world()
		h.ok(root, "ufw allow 22/tcp && ufw --force enable && systemctl start docker && iptables -S DOCKER-USER && iptables -S ufw-before-forward")
		if got := h.ok(root, "iptables -S FORWARD | head -n 1; ufw status | head -n 1"); got != "-P FORWARD DROP\nStatus: active" {
			h.Fatalf("Docker and ufw are not what they were: %s", got)
		}
		before, links := h.firewall(), h.left()
		h.ok(dev, "banger run -q "+cheap+" --name web --network routed --nat -- true")
		h.reaches("web", "beside Docker and ufw")
		if asked := h.ok(root, "journalctl -q -o cat -u afar | grep GET"); strings.Count(asked, "\n198.51.100.2 ") != strings.Count(asked, "\n") || !strings.Contains(asked, "\n") {
			h.Errorf("not the host's address alone has asked, and that for both:\n%s", asked)
		}
		if got := h.ok(dev, "banger exec web -- nslookup web.vm"); !strings.Contains(got, "web.vm") {
			h.Errorf("beside ufw, web.vm is %s", got)
		}
		for _, v := range []string{"1", "0"} {
			h.ok(root, "modprobe br_netfilter && cp /proc/sys/net/bridge/bridge-nf-call-iptables /tmp/nf && echo "+v+" >/proc/sys/net/bridge/bridge-nf-call-iptables")
			h.reaches("web", "bridge-nf-call-iptables="+v)
			h.ok(root, "cat /tmp/nf >/proc/sys/net/bridge/bridge-nf-call-iptables")
		}
		h.ok(dev, "banger vm set web --nat=false")
		if r := h.as(dev, "banger exec web -- sh -c '"+get+"'"); r.code == 0 && r.out != "" {
			h.Errorf("without NAT it reaches the world: %+v", r)
		}
		h.ok(dev, "banger vm set web --nat")
		h.reaches("web", "with NAT again")
		h.ok(root, "ufw reload")
		h.reaches("web", "after a reload of ufw's")
		h.ok(root, "systemctl restart docker")
		h.reaches("web", "after a restart of Docker's")
		h.ok(dev, "banger rm --force web && banger daemon stop")
		h.endRoot()
		if after := h.firewall(); after != before {
			h.Errorf("firewall and forwarding are\n%s\nand were\n%s", after, before)
		}
		if after := h.left(); after != links {
			h.Errorf("left:\n%s\nand before:\n%s", after, links)
		}
	})
}

// endRoot ends banger-root, which has nothing to do for now.
func (h *host) endRoot() {
	h.Helper()
	h.ok(root, `pid=$(pgrep -x banger-root) || exit 0; kill $pid; timeout 60 tail --pid=$pid -f /dev/null`)
}

// The ports of a VM, from the host and from its LAN: those that were published there.
func TestPorts(t *testing.T) {
	scenario(t, func(h *host) {
		h.world()
		before := h.left()
		h.ok(dev, `banger run -q `+cheap+` --name web --network routed --publish 8080:80 --publish 0.0.0.0:8081:80 -- sh -c 'mkdir /tmp/www && echo from web >/tmp/www/index.html && httpd -h /tmp/www'`)
		get := func(who, url string, want string) {
			h.Helper()
			r := h.as(root, who+" curl -sS --max-time 60 "+url)
			if got := strings.TrimSpace(r.out); got != want {
				h.Errorf("%s%s: %q, not %q: %s", who, url, got, want, r.err)
			}
		}
		const lan = "ip netns exec inet"
		get("", "http://127.0.0.1:8080/", "from web")
		get("", "http://127.0.0.1:8081/", "from web")
		get("", "http://198.51.100.2:8081/", "from web")
		get(lan, "http://198.51.100.2:8081/", "from web")
		if r := h.as(root, lan+" curl -sS --max-time 60 http://198.51.100.2:8080/"); r.code != 7 { // refused
			h.Errorf("the LAN gets at a port of the loopback: %+v", r)
		}
		if r := h.as(root, lan+" sh -c 'ip -n inet route add 10.0.0.0/8 via 198.51.100.2; ip -n inet route add 172.16.0.0/12 via 198.51.100.2; ip -n inet route add 192.168.0.0/16 via 198.51.100.2; curl -sS --max-time 3 http://"+h.address("web")+"/'"); r.code == 0 {
			h.Errorf("the LAN reaches the VM itself: %+v", r)
		}
		if got := h.ok(dev, "banger vm ports web"); !strings.Contains(got, "8080") || !strings.Contains(got, "0.0.0.0") {
			h.Errorf("its ports are %s", got)
		}

		h.ok(root, "systemd-run -q --unit taken python3 -m http.server --bind 127.0.0.1 8090 && curl -sS --retry 60 --retry-connrefused --retry-delay 1 -o /dev/null http://127.0.0.1:8090/")
		r := h.as(dev, "banger run -q "+cheap+" --name late --network routed --publish 8090:80 -- true")
		if r.code == 0 || !strings.Contains(r.err, "8090") {
			h.Errorf("with a port that is taken: %+v", r)
		}
		if got := h.ok(dev, "banger ps -q"); got != "web" {
			h.Errorf("there are %s", got)
		}
		h.ok(root, "systemctl stop taken")

		h.ok(root, "kill -9 $(pgrep -x bangerd)")
		h.ok(dev, "banger ps") // the next daemon
		get(lan, "http://198.51.100.2:8081/", "from web")
		h.ok(dev, "banger rm --force web")
		for _, port := range []string{"8080", "8081"} {
			if r := h.as(root, "curl -sS --max-time 60 http://127.0.0.1:"+port+"/"); r.code != 7 {
				h.Errorf("port %s of a VM that is gone: %+v", port, r)
			}
		}
		h.ok(dev, "banger daemon stop")
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	})
}

// address is a VM's of the user dev.
func (h *host) address(vm string) string {
	h.Helper()
	return h.ok(dev, "banger vm show "+vm+` -o json | sed -n 's/.*"address": "\([0-9.]*\).*/\1/p' | head -n 1`)
}
