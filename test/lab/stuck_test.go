package main

import "testing"

// What QEMU's monitor said of a machine that hung, and of one that did not.
func TestDeafCPU(t *testing.T) {
	registers := "CPU#0\nRIP=ffffffff9ae592eb RFL=00000206 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\n"
	if !halted(registers) {
		t.Error("it is halted, and takes interrupts")
	}
	for _, other := range []string{
		"RIP=ffffffff9ae592eb RFL=00000206 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\n", // runs
		"RIP=ffffffff9ae592eb RFL=00000006 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\n", // is not to be woken
		"",
	} {
		if halted(other) {
			t.Errorf("%q is not what a CPU looks like that waits for an interrupt", other)
		}
	}
	for apic, want := range map[string]int{
		"ISR\t (none)\nIRR\t 39 40 236 251 \n\nAPR 0x00 TPR 0x10 DFR 0x0f LDR 0x01 PPR 0x10\n": 251,
		"ISR\t (none)\nIRR\t (none)\n\nAPR 0x01 TPR 0x10 DFR 0x0f LDR 0x02 PPR 0x10\n":         0,
		"ISR\t 236 \nIRR\t 39 40 \n\nAPR 0x01 TPR 0x10 DFR 0x0f LDR 0x02 PPR 0xe0\n":           0,
		"": 0,
	} {
		if got := pending(apic); got != want {
			t.Errorf("%q: vector %d, not %d", apic, got, want)
		}
	}
}
