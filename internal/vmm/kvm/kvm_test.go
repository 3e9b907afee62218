package kvm_test

import (
	"os"
	"testing"

	"banger/internal/vmm/kvm"
)

func TestVirtualises(t *testing.T) {
	for flags, want := range map[string]bool{
		"flags\t\t: fpu vmx sse\n":             true,
		"flags : svm\n":                        true,
		"flags : fpu svm_lock vmxnot\n":        false,
		"vmx flags : vnmi\nflags : fpu sse2\n": false,
		"":                                     false,
	} {
		if got := kvm.Virtualise("processor : 0\n" + flags); got != want {
			t.Errorf("%q: %v", flags, got)
		}
	}
}

// Where KVM is told of, a first guest must run; elsewhere nothing is expected.
func TestKVMGuest(t *testing.T) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil || !kvm.Virtualise(string(b)) && os.Getenv("BANGER_TEST_KVM") == "" {
		t.Skip("no KVM here")
	}
	defer f.Close()
	if err := kvm.RunGuest(int(f.Fd())); err != nil {
		t.Error(err)
	}
}
