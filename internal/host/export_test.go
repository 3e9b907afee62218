package host

// ParseStat is parseStat in pieces.
func ParseStat(b []byte) (state byte, started uint64, err error) {
	st, err := parseStat(b)
	return st.state, st.started, err
}
