package banger_test

import (
	"math"
	"strings"
	"testing"

	"banger"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"512MiB": 512 << 20, "2GiB": 2 << 30, "2G": 2 << 30, "2048M": 2 << 30, "2g": 2 << 30, "1mib": 1 << 20,
		"1.5GiB": 3 << 29, "0.5K": 512, "0G": 0, "1T": 1 << 40, "7E": 7 << 60, "0.000000001K": 0, "7.999999999E": 7<<60 + 1152921503453925471,
		"007K": 7 << 10,
	} {
		if got, err := banger.ParseSize(in); err != nil || got != want {
			t.Errorf("%s = %d, %v; want %d", in, got, err, want)
		}
	}
	for in, word := range map[string]string{
		"": "not a size", "0": "no unit", "2048": "no unit", "-1": "not a size", "-1G": "not a size", "+1G": "not a size",
		"G": "not a size", "1.G": "not a size", ".5G": "not a size", "1.2.3G": "not a size", "1 G": "not a size", "1e3M": "not a size",
		"2GB": "thousands", "2B": "unit that is known", "2Gi": "unit that is known", "2GiBB": "unit that is known", "2KM": "unit that is known",
		"8E": "more than", "99999999999999999999K": "more than", "7.9999999999E": "not a size", "text": "not a size", "2X": "not a size", "٣G": "not a size",
		"2GiB\n": "not a size",
	} {
		_, err := banger.ParseSize(in)
		if banger.CodeOf(err) != banger.Invalid || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, want %q", in, err, word)
		}
		if err != nil && banger.AsError(err).Remedy == "" {
			t.Errorf("%q: no remedy", in)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for in, want := range map[int64]string{
		0: "0B", 17: "17B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 512 << 20: "512MiB", 10 << 30: "10GiB",
		3<<29 + 7: "1.5GiB", math.MaxInt64: "8EiB", -1 << 30: "-1GiB", math.MinInt64: "-8EiB",
	} {
		if got := banger.FormatSize(in); got != want {
			t.Errorf("%d = %s, want %s", in, got, want)
		}
	}
}

// Whatever is typed, it is refused in words or is a size that can be written
// and read again.
func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"512MiB", "1.5G", "-1", "2GB", "99999999999999999999E", "\x00K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := banger.ParseSize(s)
		if err != nil {
			if e := banger.AsError(err); e.Code != banger.Invalid || e.Remedy == "" {
				t.Errorf("%q: %+v", s, e)
			}
			return
		}
		if n < 0 {
			t.Errorf("%q is %d", s, n)
		}
		if n < 1<<10 || n > 1<<62 {
			return // bytes alone have no unit that is read; 8EiB is one too many
		}
		again, err := banger.ParseSize(banger.FormatSize(n))
		if err != nil || math.Abs(float64(again-n)) > float64(n)*0.06 {
			t.Errorf("%q is %d, written %s, read again %d (%v)", s, n, banger.FormatSize(n), again, err)
		}
	})
}
