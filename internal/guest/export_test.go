package guest

var (
	ParseExit   = parseExit
	ParseStatus = parseStatus
	Foreign     = foreign
)
