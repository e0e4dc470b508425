# Ruby's client: ruby_client.rb TRANSPORT ADDRESS [CA CERT KEY].
#
# Prints "pass CASE" or "fail CASE: why" for each case.
require "grpc"
require "conformance_services_pb"

Proto = Hotline::Conformance
SIZES = [31415, 9, 2653, 58979].freeze
SPECIAL_TEXT = "\t\n100 % é \r\n ☺ 😈\t\n".freeze
BINARY = (0..255).to_a.pack("C*").freeze
FIELDS = { "text" => "a b, c", "two" => %w[1 2], "bytes-bin" => BINARY,
           "none-bin" => "" }.freeze

def body(size)
  ((0..250).to_a.pack("C*") * (size / 251 + 1))[0, size]
end

def ask(size, *sizes)
  Proto::Ask.new(body: body(size), sizes: sizes)
end

# No case takes long; a call that hangs fails.
def limit
  { deadline: Time.now + 30 }
end

def check(seen, expected)
  return if seen == expected
  raise "#{seen.inspect[0, 200]} instead of #{expected.inspect[0, 200]}"
end

def refusal
  yield
rescue GRPC::BadStatus => e
  e
else
  raise "the call has not failed"
end

# An enumerator of what is pushed, until nil is.
def stream_of(queue)
  Enumerator.new do |out|
    while (message = queue.pop)
      out << message
    end
  end
end

class Cases
  def initialize(address, credentials)
    @address = address
    @credentials = credentials
    @stub = connect(Proto::Conformance::Stub)
  end

  def connect(service, more = {})
    service.new(@address, @credentials,
                channel_args: { "grpc.enable_retries" => 0 }.merge(more))
  end

  def empty_unary
    check(@stub.nothing(Proto::Empty.new, **limit), Proto::Empty.new)
  end

  def large_unary
    answer = @stub.unary(ask(271828, 314159), **limit)
    check(answer.body, body(314159))
    check(answer.received_bytes, 271828)
  end

  def many_calls
    calls = Array.new(100) do |i|
      Thread.new { @stub.unary(ask(i, 1000 + i), **limit) }
    end
    calls.map(&:value).each_with_index do |answer, i|
      check(answer.received_bytes, i)
      check(answer.body.size, 1000 + i)
    end
  end

  def client_stream
    answer = @stub.client_stream(SIZES.map { |size| ask(size) }, **limit)
    check(answer.received_bytes, SIZES.sum)
  end

  def server_stream
    answers = @stub.server_stream(ask(0, *SIZES), **limit)
    check(answers.map(&:body), SIZES.map { |size| body(size) })
  end

  def ping_pong
    requests = Queue.new
    answers = @stub.duplex(stream_of(requests), **limit)
    received = 0
    SIZES.each do |size|
      received += size
      requests << ask(size, size)
      answer = answers.next
      check(answer.body, body(size))
      check(answer.received_bytes, received)
    end
    requests << nil
    check((answers.next rescue $!.class), StopIteration)
  end

  # More in each direction than a window holds.
  def duplex
    requests = Array.new(50) { ask(100_000, 50_000, 50_000) }
    answers = @stub.duplex(requests, **limit).to_a
    check(answers.map(&:body), [body(50_000)] * 100)
    check(answers.last.received_bytes, 5_000_000)
  end

  def empty_stream
    check(@stub.duplex([], **limit).to_a, [])
  end

  def cancel_after_begin
    requests = Queue.new
    call = @stub.client_stream(stream_of(requests), return_op: true, **limit)
    error = nil
    running = Thread.new { error = refusal { call.execute } }
    until @stub.count(Proto::Empty.new, **limit).running.positive?
    end
    call.cancel
    requests << nil
    running.join
    check(error.class, GRPC::Cancelled)
  end

  def cancel_after_first_answer
    requests = Queue.new
    call = @stub.duplex(stream_of(requests), return_op: true, **limit)
    requests << ask(1, 1)
    answers = call.execute
    check(answers.next.body, body(1))
    call.cancel
    check(refusal { answers.next }.class, GRPC::Cancelled)
    requests << nil
  end

  def deadline
    error = refusal do
      @stub.unary(Proto::Ask.new(delay_ms: 60_000), deadline: Time.now + 0.5)
    end
    check(error.class, GRPC::DeadlineExceeded)
  end

  def status_codes
    (1..16).each do |code|
      error = refused(code, "text #{code}")
      check([error.code, error.details], [code, "text #{code}"])
    end
  end

  def status_text
    error = refused(2, SPECIAL_TEXT)
    check([error.code, error.details.dup.force_encoding("UTF-8")],
          [2, SPECIAL_TEXT])
  end

  def status_before_half_close
    requests = Queue.new
    answers = @stub.duplex(stream_of(requests), **limit)
    requests << ask(1, 1)
    check(answers.next.body, body(1))
    requests << Proto::Ask.new(status: 9, status_text: "enough")
    error = refusal { answers.next }
    check([error.code, error.details], [9, "enough"])
    requests << nil
  end

  def status_details
    error = refused(3, "bad", details: true)
    check(error.code, 3)
    details = error.metadata.fetch("grpc-status-details-bin")
    check(details.include?("BAD_MESSAGE"), true)
  end

  def unknown_method
    error = refusal { @stub.unserved(Proto::Empty.new, **limit) }
    check(error.class, GRPC::Unimplemented)
  end

  def unknown_service
    stub = connect(Proto::Absent::Stub)
    error = refusal { stub.nothing(Proto::Empty.new, **limit) }
    check(error.class, GRPC::Unimplemented)
  end

  def metadata
    sent = %w[head- trail-].flat_map do |prefix|
      FIELDS.map { |name, value| [prefix + name, value] }
    end
    call = @stub.metadata(ask(0), metadata: sent.to_h, return_op: true, **limit)
    call.execute
    check_fields(call.metadata, "head-")
    check_fields(call.trailing_metadata, "trail-")
  end

  def gzip
    compressed(:gzip)
  end

  def deflate
    compressed(:deflate)
  end

  def oversized_message
    error = refusal { @stub.unary(ask(9 << 20), **limit) }
    check(error.class, GRPC::ResourceExhausted)
    empty_unary
  end

  def oversized_metadata
    error = refusal do
      @stub.nothing(Proto::Empty.new, metadata: { "large" => "x" * 20_480 },
                                      **limit)
    end
    check(error.class, GRPC::ResourceExhausted)
    empty_unary
  end

  CASES = public_instance_methods(false) - %i[connect]

  private

  def refused(code, text, details: false)
    request = Proto::Ask.new(status: code, status_text: text, details: details)
    refusal { @stub.unary(request, **limit) }
  end

  def check_fields(seen, prefix)
    FIELDS.each { |name, value| check(seen[prefix + name], value) }
  end

  def compressed(algorithm)
    options = GRPC::Core::CompressionOptions.new(default_algorithm: algorithm)
    stub = connect(Proto::Conformance::Stub, options.to_channel_arg_hash)
    answer = stub.unary(ask(271828, 314159), **limit)
    check(answer.encoding, algorithm.to_s)
    check(answer.received_bytes, 271828)
    check(answer.body, body(314159))
    requests = SIZES.map { |size| ask(size, size) }
    answers = stub.duplex(requests, **limit).to_a
    check(answers.last.encoding, algorithm.to_s)
    check(answers.map(&:body), SIZES.map { |size| body(size) })
  end
end

def credentials(files)
  return :this_channel_is_insecure if files.empty?
  authority, certificate, key = files.map { |name| File.read(name) }
  GRPC::Core::ChannelCredentials.new(authority, key, certificate)
end

$stdout.sync = true
_transport, address, *files = ARGV
cases = Cases.new(address, credentials(files))
failed = Cases::CASES.count do |name|
  cases.public_send(name)
  puts "pass #{name}"
  false
rescue StandardError => e
  puts "fail #{name}: #{e.full_message(highlight: false).inspect}"
  true
end
exit failed.zero?
