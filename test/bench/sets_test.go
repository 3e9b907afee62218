package main

import (
	"os/exec"
	"testing"

	"banger/internal/network/link"
	"banger/test/netns"
)

// What the script makes is what the router makes, or the comparison says nothing.
// The rules are left out: nft(8) has other words for some that do the same.
func TestByHandIsTheSame(t *testing.T) {
	for _, tool := range []string{"ip", "sysctl", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("SKIPPED: ", err)
		}
	}
	netns.Enter(t)
	if err := addUplink(); err != nil {
		t.Fatal(err)
	}
	all := desired(3)
	if err := netByHand(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	changes, err := link.New(setUID).Apply(all)
	if err != nil || len(changes) > 1 || len(changes) == 1 && changes[0] != "set rules" {
		t.Errorf("changed %v, %v", changes, err)
	}
}
