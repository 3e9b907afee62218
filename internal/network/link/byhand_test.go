package link_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"banger/test/netns"
)

// What docs/networking.md says undoes by hand what banger does to a host beside Docker
// and ufw does: not a line more, and none less.
func TestUndoneByHand(t *testing.T) {
	for _, tool := range []string{"ip", "nft", "sysctl", "iptables-nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("SKIPPED: ", err)
		}
	}
	netns.Enter(t)
	internet(t)
	sh := func(script string) string {
		t.Helper()
		out, err := exec.Command("sh", "-ec", script).CombinedOutput() // on this thread
		if err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		return string(out)
	}
	firewall(t, "DOCKER-USER")
	sh("iptables-nft -N ufw-before-forward; iptables-nft -A FORWARD -j ufw-before-forward; iptables-nft -N ufw-before-input; iptables-nft -A INPUT -j ufw-before-input")
	before := world(t)
	apply(t, config(nat(tap(1)), tap(2)))

	doc := string(must(os.ReadFile("../../../docs/networking.md")))
	_, doc, _ = strings.Cut(doc, "#### Undoing it by hand")
	_, doc, _ = strings.Cut(doc, "```\n")
	doc, _, _ = strings.Cut(doc, "```")
	names := strings.NewReplacer("sudo iptables ", "iptables-nft ", "sudo ", "", "UPLINK", "wan0", "UID_TAG", "65534_beef", "btTAG", "btbeef",
		"INDEX", fmt.Sprint(byName(t, "wan0").Attrs().Index))
	var links []string
	for _, l := range must(netlink.LinkList()) {
		if strings.HasPrefix(l.Attrs().Alias, "banger ") {
			links = append(links, l.Attrs().Name)
		}
	}
	done := 0
	for line := range strings.Lines(doc) {
		line = names.Replace(line)
		if !strings.Contains(line, " LINK") {
			links0 := sh(line)
			if done++; done == 1 {
				for _, name := range append(links, "wan0") {
					if !strings.Contains(links0, ": "+name) {
						t.Errorf("%s is not among\n%s", name, links0)
					}
				}
			}
			continue
		}
		for _, name := range links {
			sh(strings.ReplaceAll(line, "LINK", name))
		}
	}
	if after := world(t); after != before {
		t.Errorf("left:\n%s\nbefore:\n%s", after, before)
	}
}
