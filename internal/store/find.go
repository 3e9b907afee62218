package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"banger"
)

// minPrefix is the fewest digits of an ID that name a thing. Fewer are more
// likely the name of one that was deleted ("a", "bed"), and must not hit
// another by chance.
const minPrefix = 4

// FindVM returns the VM of that name, else the one whose ID begins with ref (at
// least 4 digits). Several are Invalid, none is NotFound with the name that was
// perhaps meant.
func (s *Store) FindVM(ctx context.Context, ref string) (banger.Record, error) {
	all, err := s.VMs(ctx)
	if err != nil {
		return banger.Record{}, err
	}
	return find("VM", ref, all, func(r banger.Record) (string, string) { return r.Spec.Name, string(r.ID) }, unknownVM)
}

// find returns what ref names among all: an exact name wins over any ID.
func find[T any](kind, ref string, all []T, words func(T) (name, id string), unknown func(string, []string) error) (none T, err error) {
	var names, hits []string
	var hit T
	for _, v := range all {
		name, id := words(v)
		if name != "" {
			names = append(names, name)
		}
		if name != "" && name == ref || id == ref {
			return v, nil
		}
		if len(ref) >= minPrefix && strings.HasPrefix(id, ref) {
			hit, hits = v, append(hits, strings.TrimSpace(fmt.Sprintf("%s %s", id, name)))
		}
	}
	switch len(hits) {
	case 0:
		return none, unknown(ref, names)
	case 1:
		return hit, nil
	}
	slices.Sort(hits)
	return none, banger.Errorf(banger.Invalid, "%q could be more than one %s: %s", ref, kind, strings.Join(hits, ", ")).
		WithRemedy("give more digits, or the name")
}

func unknownVM(ref string, names []string) error {
	return unknown("VM", ref, names, "banger ps")
}

func unknownImage(ref string, names []string) error {
	return unknown("image", ref, names, "banger image list")
}

func unknown(kind, ref string, names []string, list string) error {
	e := banger.Errorf(banger.NotFound, "no %s named %q", kind, ref)
	if near := nearest(ref, names); near != "" {
		e.Message += fmt.Sprintf("; did you mean %s?", near)
	}
	return e.WithRemedy("%s", list)
}

// nearest returns the name that ref is most likely a slip of, "" if none is
// close: at most one edit away, two for six letters or more, else the only one
// that begins with ref.
func nearest(ref string, names []string) string {
	if ref == "" || len(ref) > 64 { // no name is that long
		return ""
	}
	ref = strings.ToLower(ref)
	best, limit := "", 1
	if len(ref) >= 6 {
		limit = 2
	}
	var longer []string
	for _, n := range names {
		if d := distance(ref, n); d <= limit {
			best, limit = n, d-1
		}
		if strings.HasPrefix(n, ref) {
			longer = append(longer, n)
		}
	}
	if best == "" && len(longer) == 1 {
		return longer[0]
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour to make b out of a (optimal string alignment).
func distance(a, b string) int {
	row := func(n int) []int { return make([]int, n+1) }
	before, last, next := row(len(b)), row(len(b)), row(len(b))
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(last[j]+1, next[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, last, next = last, next, before
	}
	return last[len(b)]
}
