package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/bcrypt"
)

type usersCommand struct {
	Count    int    `arg:"" help:"How many."`
	Password string `help:"The password of all of them." env:"CHATLOAD_PASSWORD" required:""`
}

// userName is that of the n-th user of the users command.
func userName(n int) string { return fmt.Sprintf("load_%d", n) }

// print writes lines for the servers' --users-file. The hash is as cheap as a
// hash can be, and one for all: what a dear one costs is not under test here,
// and login-storm has accounts of its own.
func (c *usersCommand) print(out io.Writer) error {
	if c.Count < 1 {
		return errors.New("there is nobody to print: give a number of 1 or more")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(c.Password), bcrypt.MinCost)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	for i := range c.Count {
		_, _ = fmt.Fprintf(w, "%s:%s\n", userName(i), hash)
	}
	return w.Flush()
}
