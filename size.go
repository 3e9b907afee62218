package banger

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// sizeUnits are powers of 1024, as QEMU and docker mean them: 2G is 2GiB.
const sizeUnits = "KMGTPE"

const sizeRemedy = "write it like 512MiB, 2GiB or 2G"

// ParseSize returns the bytes that a user's size means: a number and a unit,
// "512MiB", "2G", "1.5GiB"; letters in either case. A number without a unit is
// Invalid, because nobody can tell what was meant; so is GB, which some count
// in thousands. The result is never negative and may be 0.
func ParseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "KMGTPEkmgtpeIiBb")
	whole, frac, dotted := strings.Cut(number, ".")
	if !isDigits(whole) || dotted && !isDigits(frac) || len(frac) > 9 {
		return 0, Errorf(Invalid, "%q is not a size", s).WithRemedy(sizeRemedy)
	}
	shift, err := unitShift(s, s[len(number):])
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(whole, 10, 64)
	high, bytes := bits.Mul64(n, 1<<shift)
	part := fraction(frac, shift)
	if err != nil || high != 0 || bytes > math.MaxInt64-part {
		return 0, Errorf(Invalid, "size %s is more than a file can have", s).WithRemedy(sizeRemedy)
	}
	return int64(bytes + part), nil
}

// unitShift returns the binary logarithm of a unit of the size s.
func unitShift(s, unit string) (uint, error) {
	u := strings.ToUpper(unit)
	if u == "" {
		return 0, Errorf(Invalid, "size %s has no unit", s).WithRemedy("write %sMiB or %sGiB", s, s)
	}
	i := strings.IndexByte(sizeUnits, u[0])
	switch {
	case i >= 0 && (u[1:] == "" || u[1:] == "IB"):
		return uint(i+1) * 10, nil
	case i >= 0 && u[1:] == "B":
		return 0, Errorf(Invalid, "size %s: %s may mean thousands", s, unit).
			WithRemedy("write %s%ciB", strings.TrimSuffix(s, unit), u[0])
	}
	return 0, Errorf(Invalid, "size %s has no unit that is known", s).WithRemedy(sizeRemedy)
}

// fraction returns 0.DIGITS of a unit in bytes, rounded down; at most 9 digits.
func fraction(digits string, shift uint) uint64 {
	if digits == "" {
		return 0
	}
	n, _ := strconv.ParseUint(digits, 10, 64) // at most 9 digits: always fits
	scale := uint64(1)
	for range digits {
		scale *= 10
	}
	high, low := bits.Mul64(n, 1<<shift)
	q, _ := bits.Div64(high, low, scale) // n < scale, so the quotient fits
	return q
}

// FormatSize writes bytes for people, in the largest unit that fits, to one
// decimal where it does not come out even: "512MiB", "1.5GiB", "17B".
func FormatSize(bytes int64) string {
	if bytes < 0 {
		if bytes == math.MinInt64 {
			return "-8EiB"
		}
		return "-" + FormatSize(-bytes)
	}
	shift := 0
	for shift < 60 && bytes>>(shift+10) > 0 {
		shift += 10
	}
	if shift == 0 {
		return strconv.FormatInt(bytes, 10) + "B"
	}
	f := float64(bytes) / float64(int64(1)<<shift)
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") + sizeUnits[shift/10-1:shift/10] + "iB"
}

func isDigits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
