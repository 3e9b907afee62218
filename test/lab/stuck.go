package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// errEmulator is the end of a machine by a fault that is QEMU's, of its emulation of SVM.
var errEmulator = errors.New("the emulator's fault")

var (
	// An interrupt that is taken right after #VMEXIT.
	errInterrupted = fmt.Errorf("%w: the machine's kernel died in __svm_vcpu_run", errEmulator)
	// Its global interrupt flag is lost: the other CPU waits for it for ever.
	errDeaf = fmt.Errorf("%w: a CPU that is halted takes no interrupt any more", errEmulator)
)

// A CPU that is halted with interrupts enabled, and one for it, wakes within
// microseconds; on a busy machine within a second.
const (
	lookEvery = 10 * time.Second
	looks     = 4
)

// watch looks whether CPUs that should wake do, until the machine's end.
func (m *machine) watch(q *monitor) {
	defer q.close()
	asleep := map[string]int{} // looks at which this was so, one after another
	for {
		select {
		case <-m.ended:
			return
		case <-m.dead:
			return
		case <-time.After(lookEvery):
		}
		deaf, err := q.deaf()
		if err != nil {
			return // QEMU has ended
		}
		now := map[string]int{}
		for _, cpu := range deaf {
			if now[cpu] = asleep[cpu] + 1; now[cpu] == looks {
				m.die(errDeaf)
				return
			}
		}
		asleep = now
	}
}

// deaf returns the CPUs that are halted although there is an interrupt that they
// would take, with what is known of each.
func (q *monitor) deaf() (cpus []string, err error) {
	registers, err := q.human("info registers -a")
	if err != nil {
		return nil, err
	}
	for n, cpu := range strings.Split(registers, "CPU#")[1:] {
		if !halted(cpu) {
			continue
		}
		apic, err := q.human(fmt.Sprintf("info lapic %d", n))
		if err != nil {
			return nil, err
		}
		if vector := pending(apic); vector > 0 {
			cpus = append(cpus, fmt.Sprint(n, ripOf.FindString(cpu), vector))
		}
	}
	return cpus, nil
}

var (
	ripOf   = regexp.MustCompile(`RIP=[0-9a-f]+`)
	flagsOf = regexp.MustCompile(`RFL=([0-9a-f]+)`)
	irrOf   = regexp.MustCompile(`(?m)^IRR\t ([0-9 ]*)`)
	ppr     = regexp.MustCompile(`PPR 0x([0-9a-f]+)`)
)

// halted reports whether a CPU waits, with interrupts enabled.
func halted(registers string) bool {
	f := flagsOf.FindStringSubmatch(registers)
	if f == nil || !strings.Contains(registers, "HLT=1") {
		return false
	}
	flags, err := strconv.ParseUint(f[1], 16, 64)
	return err == nil && flags&0x200 != 0
}

// pending returns the highest vector that a local APIC has for its CPU; 0 if there is none
// above the CPU's priority.
func pending(apic string) (vector int) {
	irr, p := irrOf.FindStringSubmatch(apic), ppr.FindStringSubmatch(apic)
	if irr == nil || p == nil {
		return 0
	}
	for _, v := range strings.Fields(irr[1]) {
		if n, err := strconv.Atoi(v); err == nil {
			vector = max(vector, n)
		}
	}
	priority, err := strconv.ParseInt(p[1], 16, 32)
	if err != nil || vector>>4 <= int(priority)>>4 {
		return 0
	}
	return vector
}

// human does one command of QEMU's monitor for people, and returns what it prints.
func (q *monitor) human(line string) (string, error) {
	result, err := q.answer("human-monitor-command", arguments{"command-line": line})
	if err != nil {
		return "", err
	}
	var text string
	err = json.Unmarshal(result, &text)
	return text, err
}

// die says that the machine is of no use any more, and why; the first reason counts.
func (m *machine) die(why error) {
	m.once.Do(func() {
		m.why = why
		close(m.dead)
	})
}
