package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// results are what is printed and kept.
type results struct {
	At      time.Time `json:"at"`
	Machine machine   `json:"machine"`
	Rows    []row     `json:"rows"`
}

// A row compares banger with something, or an amount with a limit. Samples are
// in the order in which they were taken.
type row struct {
	What        string    `json:"what"`
	NotMeasured string    `json:"not_measured,omitempty"` // why; all below is empty then
	Unit        string    `json:"unit"`                   // "s", "bytes" or "percent"
	Median      float64   `json:"median"`
	Samples     []float64 `json:"samples"`
	Against     string    `json:"against,omitempty"`
	Other       float64   `json:"against_median,omitempty"`
	Others      []float64 `json:"against_samples,omitempty"`
	Ratio       float64   `json:"ratio,omitempty"` // of the medians
	Goal        float64   `json:"goal,omitzero"`   // of the ratio, or of the median: at most; 0: there is none
	GoalKept    bool      `json:"goal_kept"`       // or there is none
}

func notMeasured(what, why string) row { return row{What: what, NotMeasured: why} }

func ratio(what string, samples []float64, against string, others []float64, goal float64) row {
	r := row{What: what, Unit: "s", Samples: samples, Median: median(samples), Against: against, Others: others, Other: median(others), Goal: goal}
	r.Ratio = r.Median / r.Other
	r.GoalKept = goal == 0 || r.Ratio <= goal
	return r
}

func amount(what string, samples []float64, limit float64) row {
	m := median(samples)
	return row{What: what, Unit: "bytes", Samples: samples, Median: m, Goal: limit, GoalKept: limit == 0 || m <= limit}
}

// limited is a time, seconds, that has a limit.
func limited(what string, samples []float64, limit float64) row {
	r := amount(what, samples, limit)
	r.Unit = "s"
	return r
}

// median of at least one sample.
func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	mid := len(s) / 2
	if len(s)%2 == 0 {
		return (s[mid-1] + s[mid]) / 2
	}
	return s[mid]
}

func (r *results) print(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "%d cores, load %s, Linux %s", m.Cores, m.Load, m.Kernel)
	if m.QEMU != "" {
		fmt.Fprintf(w, "; %s, %s; guest Linux %s; %s", m.QEMU, m.Accelerator, m.GuestKernel, m.Banger)
	}
	if m.Firecracker != "" {
		fmt.Fprintf(w, "; in the lab, %s: %s; guest Linux %s; %s", m.Lab, m.Firecracker, m.GuestKernel, m.Banger)
	}
	fmt.Fprint(w, "\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tMEDIAN\tRANGE\tAGAINST\tMEDIAN\tRANGE\tRATIO\tGOAL\t")
	for _, r := range r.Rows {
		switch {
		case r.NotMeasured != "":
			fmt.Fprintf(t, "%s\tnot measured: %s\n", r.What, r.NotMeasured)
		case r.Unit == "percent":
			fmt.Fprintf(t, "%s\t%s\t\t\t\t\t\t%s\n", r.What, percent(r.Median), r.verdict(percent))
		case r.Unit == "bytes":
			fmt.Fprintf(t, "%s\t%s\t%s\t\t\t\t\t%s\n", r.What, mib(r.Median), span(r.Samples, mib), r.verdict(mib))
		case r.Against == "":
			fmt.Fprintf(t, "%s\t%s\t%s\t\t\t\t\t%s\n", r.What, seconds(r.Median), span(r.Samples, seconds), r.verdict(seconds))
		default:
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\n", r.What, seconds(r.Median), span(r.Samples, seconds),
				r.Against, seconds(r.Other), span(r.Others, seconds), r.Ratio, r.verdict(fraction))
		}
	}
	return t.Flush()
}

func (r *row) verdict(f func(float64) string) string {
	switch {
	case r.Goal == 0:
		return "-\t"
	case r.GoalKept:
		return "≤ " + f(r.Goal) + "\tkept"
	}
	return "≤ " + f(r.Goal) + "\tmissed"
}

func span(samples []float64, f func(float64) string) string {
	if len(samples) < 2 {
		return ""
	}
	return f(slices.Min(samples)) + "–" + f(slices.Max(samples))
}

func seconds(s float64) string {
	switch {
	case s < 1e-3:
		return fmt.Sprintf("%.1f µs", s*1e6)
	case s < 0.1:
		return fmt.Sprintf("%.1f ms", s*1000)
	}
	return fmt.Sprintf("%.2f s", s)
}

func fraction(f float64) string { return fmt.Sprintf("%.2f", f) }

func percent(p float64) string { return fmt.Sprintf("%.2f %%", p) }

func mib(b float64) string { return fmt.Sprintf("%.1f MiB", b/(1<<20)) }

func (r *results) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
