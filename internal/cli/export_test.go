package cli

// Finish is finish.
var Finish = finish
