package banger

import "time"

// A VMEvent is one thing that happened to a VM, whoever did it.
type VMEvent struct {
	N       int64       `json:"n"` // counts up by one; a later daemon goes on with a larger number
	At      time.Time   `json:"at"`
	Type    VMEventType `json:"type"`
	VM      VMID        `json:"vm,omitempty"`
	Name    string      `json:"name,omitempty"`    // as it was called then
	Was     string      `json:"was,omitempty"`     // renamed: as it was called before
	Exit    *Exit       `json:"exit,omitempty"`    // stopped: how its run ended
	Problem *Problem    `json:"problem,omitempty"` // failed, problem
	Since   int64       `json:"since,omitempty"`   // lost: the number that was asked for
}

type VMEventType string

const (
	VMCreated  VMEventType = "created"
	VMStarting VMEventType = "starting" // a run begins, also after a guest's reboot
	VMReady    VMEventType = "ready"    // commands can be run in it, for the first time in this run
	VMFailed   VMEventType = "failed"   // a start failed, Problem says why; nothing of it is left
	VMStopped  VMEventType = "stopped"  // its run has ended, Exit says how
	VMAdopted  VMEventType = "adopted"  // it ran when this daemon started, and goes on
	VMProblem  VMEventType = "problem"  // it runs, and something of it could not be mended
	VMChanged  VMEventType = "changed"  // its spec is another
	VMRenamed  VMEventType = "renamed"
	VMReset    VMEventType = "reset" // its root disk is as new
	VMDeleted  VMEventType = "deleted"

	// VMEventsLost stands for events that cannot be told any more, those from
	// Since to N, if there were any: too many came after them, or another
	// daemon saw them. What is true now has to be asked for anew.
	VMEventsLost VMEventType = "lost"
)
