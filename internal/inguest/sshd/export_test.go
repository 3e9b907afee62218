package sshd

// Parsers of foreign bytes, for the fuzz tests.
var (
	ParsePasswd      = parsePasswd
	ParseGroups      = parseGroups
	ParseEnvironment = parseEnvironment
	ParsePTY         = parsePTY
	ParseWindow      = parseWindow
)

// An Account is an entry of /etc/passwd.
type Account = account

// Term is the terminal type that a gets below root when it wants another.
func Term(root, want string, a Account) string { return users{root: root}.term(want, a) }
