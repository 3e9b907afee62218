package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"banger"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// strict makes every mistake on the command line a usage error with a remedy,
// for cmd and all below it. cobra by itself takes an unknown verb of a noun for
// a wish to see its help, and has no suggestions for flags.
func strict(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(flagError)
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownVerb(cmd, args[0])
		}
	} else if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return argsError(cmd, args, check(cmd, args)) }
	}
	for _, c := range cmd.Commands() {
		strict(c)
	}
}

// argsError is err in a user's words: cobra counts, a user thinks of things.
func argsError(cmd *cobra.Command, args []string, err error) error {
	var known *banger.Error
	wanted := slices.DeleteFunc(strings.Fields(cmd.Use)[1:], func(w string) bool { return w[0] == '[' })
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case len(args) == 0 && len(wanted) > 0:
		err = banger.Errorf(banger.Invalid, "%s is missing", strings.TrimSuffix(wanted[0], "..."))
	case len(args) > 0:
		err = banger.Errorf(banger.Invalid, "what is %q?", args[len(args)-1])
	}
	return usage(err, "usage: %s", cmd.UseLine())
}

// usage makes err an Invalid, with a remedy if it has none.
func usage(err error, remedy string, a ...any) error {
	e := banger.AsError(err)
	e.Code = banger.Invalid
	if e.Remedy == "" {
		return e.WithRemedy(remedy, a...)
	}
	return e
}

func unknownVerb(cmd *cobra.Command, verb string) error {
	e := banger.Errorf(banger.Invalid, "unknown command %q for %q", verb, cmd.CommandPath())
	if like := similarVerbs(cmd, verb); len(like) > 0 {
		return e.WithRemedy("did you mean: %s", strings.Join(like, ", or: "))
	}
	return e.WithRemedy("see: %s --help", cmd.CommandPath())
}

// similarVerbs are the commands that verb was probably meant to be: the nearest
// ones of cmd, else of its nouns, since a noun is easily left out.
func similarVerbs(cmd *cobra.Command, verb string) []string {
	if same := sameVerbs(cmd, verb); len(same) > 0 {
		return same
	}
	like, best := []string(nil), far
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		switch d := likeness(verb, c.Name()); {
		case d < best:
			best, like = d, []string{c.CommandPath()}
		case d == best && d < far:
			like = append(like, c.CommandPath())
		}
	}
	if like != nil {
		return like
	}
	for _, c := range cmd.Commands() {
		like = append(like, similarVerbs(c, verb)...)
	}
	return like
}

// sameVerbs are the commands below the nouns of cmd that are named just so.
func sameVerbs(cmd *cobra.Command, verb string) (same []string) {
	for _, noun := range cmd.Commands() {
		for _, c := range noun.Commands() {
			if c.IsAvailableCommand() && (c.Name() == verb || c.HasAlias(verb)) {
				same = append(same, c.CommandPath())
			}
		}
	}
	return same
}

func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var bad *pflag.InvalidValueError
	switch {
	case errors.As(err, &bad):
		err = fmt.Errorf("--%s %q: %w", bad.GetFlag().Name, bad.GetValue(), bad.Unwrap())
	case errors.As(err, &unknown):
		name := "-" + unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() == "" {
			name = "-" + name
		}
		err = banger.Errorf(banger.Invalid, "unknown flag %s", name)
		if like := similarFlag(cmd, strings.TrimLeft(name, "-")); like != "" {
			return usage(err, "did you mean: --%s", like)
		}
		if hint := elsewhere(cmd, name); hint != "" {
			return usage(err, "%s", hint)
		}
		if strings.Contains(cmd.Use, "-- COMMAND") {
			return usage(err, "flags of the guest's command come after two dashes: %s ... -- COMMAND %s", cmd.CommandPath(), name)
		}
	}
	return usage(err, "see: %s --help", cmd.CommandPath())
}

// similarFlag is the flag of cmd that name was probably meant to be, "" if
// there is none.
func similarFlag(cmd *cobra.Command, name string) string {
	best, distance := "", far
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		d := likeness(name, f.Name)
		if d < distance {
			best, distance = f.Name, d
		}
	})
	return best
}

// far is the likeness of words that have nothing to do with each other.
const far = 3

// likeness is how far what was typed is from word: 0 the same, 1 its beginning
// or a letter off, far and more another one.
func likeness(typed, word string) int {
	d := edits(typed, word)
	if len(typed) > 1 && strings.HasPrefix(word, typed) || strings.HasPrefix(typed, word) {
		d = min(d, 1)
	}
	if d >= len(typed) { // nothing of it is left
		return far
	}
	return d
}

// edits is the number of letters to change, add or take away that makes a of b
// (Levenshtein).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			change := row[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = slices.Min([]int{change, row[j+1] + 1, next[j] + 1})
		}
		row = next
	}
	return row[len(b)]
}
