// Package doctor is a table of checks: a name, a probe, what it is needed for
// and what it needs. It runs them in order; what is probed is the daemon's
// business, which hands the table in.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"banger"
)

// A Status is how a check came out.
type Status string

const (
	OK      Status = "ok"
	Note    Status = "note"    // works; worth knowing
	Warning Status = "warning" // works, with a drawback
	Failed  Status = "failed"  // what the check is for does not work
	Skipped Status = "skipped" // what it needs failed
)

// A Result is what a probe found: one line, and for all but OK what to do.
type Result struct {
	Status  Status
	Message string
	Remedy  string
}

// A Check is one line of doctor.
type Check struct {
	Name  string                       // unique in its table
	Probe func(context.Context) Result // looks and changes nothing
	For   []string                     // the commands that need it, as `doctor --for` names them
	Needs []string                     // names of checks before it without which it says nothing
}

// An Outcome is a Check that was run or skipped.
type Outcome struct {
	Name string
	Result
}

// Run runs checks in their order: all of them, or those that the command
// purpose needs and what they need in turn. A check that needs a failed one is
// skipped and says so. The error is a wrong purpose (Invalid), a wrong table or
// the end of ctx; a failed check is none.
func Run(ctx context.Context, checks []Check, purpose string) ([]Outcome, error) {
	if err := sound(checks); err != nil {
		return nil, err
	}
	chosen, err := choose(checks, purpose)
	if err != nil {
		return nil, err
	}
	var out []Outcome
	lost := map[string]bool{} // names of checks that failed or were skipped
	for _, c := range chosen {
		if err := context.Cause(ctx); err != nil {
			return out, fmt.Errorf("check %s: %w", c.Name, err)
		}
		o := Outcome{Name: c.Name}
		if i := slices.IndexFunc(c.Needs, func(n string) bool { return lost[n] }); i >= 0 {
			o.Result = Result{Status: Skipped, Message: "needs " + c.Needs[i]}
		} else {
			o.Result = c.Probe(ctx)
		}
		lost[c.Name] = o.Status == Failed || o.Status == Skipped
		out = append(out, o)
	}
	return out, nil
}

// Healthy reports whether no check failed.
func Healthy(all []Outcome) bool {
	return !slices.ContainsFunc(all, func(o Outcome) bool { return o.Status == Failed })
}

// FromError is the Result of a probe that ended with err: Failed with its
// remedy, or OK with message.
func FromError(err error, message string) Result {
	if e := banger.AsError(err); e != nil {
		return Result{Status: Failed, Message: e.Message, Remedy: e.Remedy}
	}
	return Result{Status: OK, Message: message}
}

// choose keeps the table's order. Needs point backwards, so one pass from the
// end finds everything that is needed.
func choose(checks []Check, purpose string) (chosen []Check, err error) {
	if purpose == "" {
		return checks, nil
	}
	var known []string
	wanted := map[string]bool{}
	for _, c := range slices.Backward(checks) {
		known = append(known, c.For...)
		if slices.Contains(c.For, purpose) || wanted[c.Name] {
			chosen = append(chosen, c)
			for _, n := range c.Needs {
				wanted[n] = true
			}
		}
	}
	if len(chosen) == 0 {
		slices.Sort(known)
		return nil, banger.Errorf(banger.Invalid, "doctor knows nothing that %q needs", purpose).
			WithRemedy("use one of %s", strings.Join(slices.Compact(known), ", "))
	}
	slices.Reverse(chosen)
	return chosen, nil
}

// sound says what is wrong with a table.
func sound(checks []Check) error {
	seen := map[string]bool{}
	for _, c := range checks {
		for _, n := range c.Needs {
			if !seen[n] {
				return fmt.Errorf("check %s needs %s, which does not come before it", c.Name, n)
			}
		}
		if seen[c.Name] {
			return fmt.Errorf("two checks are named %s", c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}
