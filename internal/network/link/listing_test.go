package link_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"banger"
	"banger/test/netns"
)

// The listing in docs/networking.md is what nft(8) says, comments aside.
func TestListing(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("SKIPPED: nft is not installed (nftables)")
	}
	netns.Enter(t)
	internet(t)
	c := config(let(nat(tap(1)), banger.HostPort{Port: 5432, Proto: banger.TCP}), isolated(tap(2)))
	c.Names = 20053
	apply(t, c)
	out, err := exec.Command(nft, "list", "table", "inet", "banger_65534_beef").CombinedOutput() // on this thread
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	doc := string(must(os.ReadFile("../../../docs/networking.md")))
	_, doc, _ = strings.Cut(doc, "```nft\n")
	doc, _, _ = strings.Cut(doc, "```")
	plain := func(s string) (lines []string) {
		for l := range strings.Lines(s) {
			l, _, _ = strings.Cut(l, " # ")
			if l = strings.Join(strings.Fields(l), " "); l != "" && !strings.HasPrefix(l, "#") {
				lines = append(lines, l)
			}
		}
		return lines
	}
	if got, want := strings.Join(plain(doc), "\n"), strings.Join(plain(string(out)), "\n"); got != want {
		t.Errorf("docs/networking.md has\n%s\nand the kernel\n%s", got, out)
	}
}
