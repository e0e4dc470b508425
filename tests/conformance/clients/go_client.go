// Go's client: go_client TRANSPORT ADDRESS [CA CERT KEY].
//
// Prints "pass CASE" or "fail CASE: why" for each case.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/ioutil"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"conformance"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var sizes = []uint32{31415, 9, 2653, 58979}

const specialText = "\t\n100 % é \r\n ☺ 😈\t\n"

func body(size int) []byte {
	bytes := make([]byte, size)
	for i := range bytes {
		bytes[i] = byte(i % 251)
	}
	return bytes
}

func ask(size int, answers ...uint32) *conformance.Ask {
	return &conformance.Ask{Body: body(size), Sizes: answers}
}

// No case takes long; a call that hangs fails.
func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 30*time.Second)
}

func checkBody(answer *conformance.Answer, size uint32) error {
	if !bytes.Equal(answer.Body, body(int(size))) {
		return fmt.Errorf("an answer's body has %d bytes, or others than sent",
			len(answer.Body))
	}
	return nil
}

func checkReceived(answer *conformance.Answer, received uint64) error {
	if answer.ReceivedBytes != received {
		return fmt.Errorf("%d bytes received instead of %d",
			answer.ReceivedBytes, received)
	}
	return nil
}

func checkStatus(err error, code codes.Code, text string) error {
	if seen := status.Convert(err); seen.Code() != code ||
		seen.Message() != text {
		return fmt.Errorf("ended with %v instead of %v %q", err, code, text)
	}
	return nil
}

func checkCode(err error, code codes.Code) error {
	return checkStatus(err, code, status.Convert(err).Message())
}

func checkEnd(err error) error {
	if err != io.EOF {
		return fmt.Errorf("ended with %v instead of io.EOF", err)
	}
	return nil
}

// The first error.
func first(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

type cases struct {
	stub   conformance.ConformanceClient
	absent conformance.AbsentClient
}

func (c *cases) unary(request *conformance.Ask, options ...grpc.CallOption) (
	*conformance.Answer, error) {
	ctx, cancel := limit()
	defer cancel()
	return c.stub.Unary(ctx, request, options...)
}

func (c *cases) emptyUnary() error {
	ctx, cancel := limit()
	defer cancel()
	_, err := c.stub.Nothing(ctx, &conformance.Empty{})
	return err
}

func (c *cases) largeUnary(options ...grpc.CallOption) error {
	answer, err := c.unary(ask(271828, 314159), options...)
	if err != nil {
		return err
	}
	return first(checkBody(answer, 314159), checkReceived(answer, 271828))
}

func (c *cases) manyCalls() error {
	const calls = 100
	failures := make([]error, calls)
	var group sync.WaitGroup
	for i := range failures {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			answer, err := c.unary(ask(i, uint32(1000+i)))
			if err == nil {
				err = first(checkBody(answer, uint32(1000+i)),
					checkReceived(answer, uint64(i)))
			}
			failures[i] = err
		}(i)
	}
	group.Wait()
	return first(failures...)
}

func (c *cases) clientStream() error {
	ctx, cancel := limit()
	defer cancel()
	stream, err := c.stub.ClientStream(ctx)
	if err != nil {
		return err
	}
	var sent uint64
	for _, size := range sizes {
		sent += uint64(size)
		if err := stream.Send(ask(int(size))); err != nil {
			return err
		}
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	return checkReceived(answer, sent)
}

func (c *cases) serverStream() error {
	ctx, cancel := limit()
	defer cancel()
	stream, err := c.stub.ServerStream(ctx, ask(0, sizes...))
	if err != nil {
		return err
	}
	for _, size := range sizes {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := checkBody(answer, size); err != nil {
			return err
		}
	}
	_, err = stream.Recv()
	return checkEnd(err)
}

func (c *cases) pingPong(options ...grpc.CallOption) error {
	ctx, cancel := limit()
	defer cancel()
	stream, err := c.stub.Duplex(ctx, options...)
	if err != nil {
		return err
	}
	var sent uint64
	for _, size := range sizes {
		sent += uint64(size)
		if err := stream.Send(ask(int(size), size)); err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := first(checkBody(answer, size),
			checkReceived(answer, sent)); err != nil {
			return err
		}
	}
	stream.CloseSend()
	_, err = stream.Recv()
	return checkEnd(err)
}

// More in each direction than a window holds.
func (c *cases) duplex() error {
	ctx, cancel := limit()
	defer cancel()
	stream, err := c.stub.Duplex(ctx)
	if err != nil {
		return err
	}
	go func() {
		request := ask(100000, 50000, 50000)
		for i := 0; i < 50 && stream.Send(request) == nil; i++ {
		}
		stream.CloseSend()
	}()
	var last *conformance.Answer
	for i := 0; i < 100; i++ {
		if last, err = stream.Recv(); err != nil {
			return err
		}
		if err := checkBody(last, 50000); err != nil {
			return err
		}
	}
	_, err = stream.Recv()
	return first(checkReceived(last, 5000000), checkEnd(err))
}

func (c *cases) emptyStream() error {
	ctx, cancel := limit()
	defer cancel()
	stream, err := c.stub.Duplex(ctx)
	if err != nil {
		return err
	}
	stream.CloseSend()
	_, err = stream.Recv()
	return checkEnd(err)
}

func (c *cases) cancelAfterBegin() error {
	ctx, cancel := limit()
	defer cancel()
	stream, err := c.stub.ClientStream(ctx)
	if err != nil {
		return err
	}
	for {
		counting, done := limit()
		counts, err := c.stub.Count(counting, &conformance.Empty{})
		done()
		if err != nil {
			return err
		}
		if counts.Running > 0 {
			break
		}
	}
	cancel()
	_, err = stream.CloseAndRecv()
	return checkCode(err, codes.Canceled)
}

func (c *cases) cancelAfterFirstAnswer() error {
	ctx, cancel := limit()
	defer cancel()
	stream, err := c.stub.Duplex(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(ask(1, 1)); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	cancel()
	_, err = stream.Recv()
	return checkCode(err, codes.Canceled)
}

func (c *cases) deadline() error {
	ctx, cancel := context.WithTimeout(context.Background(),
		500*time.Millisecond)
	defer cancel()
	_, err := c.stub.Unary(ctx, &conformance.Ask{DelayMs: 60000})
	return checkCode(err, codes.DeadlineExceeded)
}

func (c *cases) statusCodes() error {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		text := fmt.Sprintf("text %d", code)
		_, err := c.unary(
			&conformance.Ask{Status: uint32(code), StatusText: text})
		if err := checkStatus(err, code, text); err != nil {
			return err
		}
	}
	return nil
}

func (c *cases) statusText() error {
	_, err := c.unary(&conformance.Ask{
		Status: uint32(codes.Unknown), StatusText: specialText})
	return checkStatus(err, codes.Unknown, specialText)
}

func (c *cases) statusBeforeHalfClose() error {
	ctx, cancel := limit()
	defer cancel()
	stream, err := c.stub.Duplex(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(ask(1, 1)); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(&conformance.Ask{
		Status:     uint32(codes.FailedPrecondition),
		StatusText: "enough",
	}); err != nil {
		return err
	}
	_, err = stream.Recv()
	return checkStatus(err, codes.FailedPrecondition, "enough")
}

func (c *cases) statusDetails() error {
	_, err := c.unary(&conformance.Ask{
		Status:     uint32(codes.InvalidArgument),
		StatusText: "bad",
		Details:    true,
	})
	for _, detail := range status.Convert(err).Proto().GetDetails() {
		if strings.Contains(string(detail.Value), "BAD_MESSAGE") {
			return checkCode(err, codes.InvalidArgument)
		}
	}
	return errors.New("no details")
}

func (c *cases) unknownMethod() error {
	ctx, cancel := limit()
	defer cancel()
	_, err := c.stub.Unserved(ctx, &conformance.Empty{})
	return checkCode(err, codes.Unimplemented)
}

func (c *cases) unknownService() error {
	ctx, cancel := limit()
	defer cancel()
	_, err := c.absent.Nothing(ctx, &conformance.Empty{})
	return checkCode(err, codes.Unimplemented)
}

func (c *cases) metadata() error {
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	fields := map[string][]string{"text": {"a b, c"}, "two": {"1", "2"},
		"bytes-bin": {string(binary)}, "none-bin": {""}}
	sent := metadata.MD{}
	for name, values := range fields {
		sent.Append("head-"+name, values...)
		sent.Append("trail-"+name, values...)
	}
	ctx, cancel := limit()
	defer cancel()
	var head, trailer metadata.MD
	_, err := c.stub.Metadata(metadata.NewOutgoingContext(ctx, sent), ask(0),
		grpc.Header(&head), grpc.Trailer(&trailer))
	if err != nil {
		return err
	}
	for name, values := range fields {
		if !reflect.DeepEqual(head.Get("head-"+name), values) ||
			!reflect.DeepEqual(trailer.Get("trail-"+name), values) {
			return fmt.Errorf("%s has changed", name)
		}
	}
	return nil
}

func (c *cases) gzip() error {
	compress := grpc.UseCompressor(gzip.Name)
	answer, err := c.unary(ask(1000), compress)
	if err != nil {
		return err
	}
	if answer.Encoding != "gzip" {
		return fmt.Errorf("encoding %q", answer.Encoding)
	}
	return first(c.largeUnary(compress), c.pingPong(compress))
}

func (c *cases) oversizedMessage() error {
	_, err := c.unary(ask(9 << 20))
	return first(checkCode(err, codes.ResourceExhausted), c.emptyUnary())
}

func (c *cases) oversizedMetadata() error {
	ctx, cancel := limit()
	defer cancel()
	_, err := c.stub.Nothing(metadata.AppendToOutgoingContext(ctx, "large",
		strings.Repeat("x", 20480)), &conformance.Empty{})
	return first(checkCode(err, codes.ResourceExhausted), c.emptyUnary())
}

func dial(arguments []string) (*grpc.ClientConn, error) {
	transport, address := arguments[0], arguments[1]
	options := []grpc.DialOption{grpc.WithDisableRetry()}
	if transport != "tls" {
		options = append(options, grpc.WithInsecure())
	} else {
		roots := x509.NewCertPool()
		pem, err := ioutil.ReadFile(arguments[2])
		if err != nil {
			return nil, err
		}
		roots.AppendCertsFromPEM(pem)
		own, err := tls.LoadX509KeyPair(arguments[3], arguments[4])
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithTransportCredentials(
			credentials.NewTLS(&tls.Config{RootCAs: roots,
				Certificates: []tls.Certificate{own}})))
	}
	if transport == "unix" {
		path := strings.TrimPrefix(address, "unix://")
		address = "passthrough:///localhost"
		options = append(options, grpc.WithContextDialer(
			func(ctx context.Context, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}))
	}
	return grpc.Dial(address, options...)
}

func main() {
	connection, err := dial(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	defer connection.Close()
	c := &cases{conformance.NewConformanceClient(connection),
		conformance.NewAbsentClient(connection)}
	failed := false
	for _, each := range []struct {
		name string
		run  func() error
	}{
		{"empty_unary", c.emptyUnary},
		{"large_unary", func() error { return c.largeUnary() }},
		{"many_calls", c.manyCalls},
		{"client_stream", c.clientStream},
		{"server_stream", c.serverStream},
		{"ping_pong", func() error { return c.pingPong() }},
		{"duplex", c.duplex},
		{"empty_stream", c.emptyStream},
		{"cancel_after_begin", c.cancelAfterBegin},
		{"cancel_after_first_answer", c.cancelAfterFirstAnswer},
		{"deadline", c.deadline},
		{"status_codes", c.statusCodes},
		{"status_text", c.statusText},
		{"status_before_half_close", c.statusBeforeHalfClose},
		{"status_details", c.statusDetails},
		{"unknown_method", c.unknownMethod},
		{"unknown_service", c.unknownService},
		{"metadata", c.metadata},
		{"gzip", c.gzip},
		{"oversized_message", c.oversizedMessage},
		{"oversized_metadata", c.oversizedMetadata},
	} {
		if err := each.run(); err != nil {
			failed = true
			fmt.Printf("fail %s: %q\n", each.name, err)
		} else {
			fmt.Println("pass", each.name)
		}
	}
	if failed {
		os.Exit(1)
	}
}
