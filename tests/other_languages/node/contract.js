// The contract, read from its .proto files, and the participant's own types, read from the set that protoc made of
// them: encoding, decoding, and what travels with a call that fails. This module must not know an action.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

// Field names as in the .proto files. int64 as decimal strings: a JavaScript number would round those above 2^53.
const OPTIONS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
// Descriptors are passed on as they are: a default that is spelled out would say something else.
const DESCRIPTOR_OPTIONS = { ...OPTIONS, defaults: false };
const TYPE_URL_PREFIX = 'type.googleapis.com/';
const ERROR_DOMAIN = 'saga.v1';

// googleapis publishes it in google/rpc/error_details.proto, of which nothing else is needed here.
const ERROR_INFO = protoLoader.fromJSON({
  nested: {
    google: {
      nested: {
        rpc: {
          nested: {
            ErrorInfo: { fields: { reason: { type: 'string', id: 1 }, domain: { type: 'string', id: 2 } } },
          },
        },
      },
    },
  },
})['google.rpc.ErrorInfo'];

/** A call that ends with a status: what became of the step is not said. */
class CallError extends Error {
  constructor(code, reason, message) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

class Contract {
  /**
   * `protosDirectory` holds `saga/v1/` and `third_party/`; `descriptorsFile` is what
   * `protoc --include_imports --descriptor_set_out` wrote of the participant's own types.
   */
  constructor(protosDirectory, descriptorsFile) {
    this._descriptors = fs.readFileSync(descriptorsFile);
    const includeDirs = [protosDirectory, path.join(protosDirectory, 'third_party')];
    this._types = {
      ...protoLoader.loadFileDescriptorSetFromBuffer(this._descriptors, OPTIONS),
      ...protoLoader.loadSync(['saga/v1/participant.proto', 'google/rpc/status.proto'], { ...OPTIONS, includeDirs }),
    };
  }

  /** The service, with requests and replies as bytes: a malformed one can be refused, a stored one sent as it is. */
  get service() {
    const asBytes = (bytes) => bytes;
    const methods = Object.entries(this._types['saga.v1.ParticipantService']).map(([name, method]) => [
      name,
      {
        ...method,
        requestSerialize: asBytes,
        requestDeserialize: asBytes,
        responseSerialize: asBytes,
        responseDeserialize: asBytes,
      },
    ]);
    return Object.fromEntries(methods);
  }

  /** Everything that the participant's own types are made of, for Describe. */
  get descriptors() {
    const types = protoLoader.loadSync('google/protobuf/descriptor.proto', DESCRIPTOR_OPTIONS);
    return types['google.protobuf.FileDescriptorSet'].deserialize(this._descriptors);
  }

  encode(typeName, message) {
    return Buffer.from(this._type(typeName).serialize(message));
  }

  /** Throws where the bytes are not such a message. */
  decode(typeName, bytes) {
    return this._type(typeName).deserialize(bytes);
  }

  pack(typeName, message) {
    return { type_url: TYPE_URL_PREFIX + typeName, value: this.encode(typeName, message) };
  }

  /** What grpc-js sends for a failed call: a status with google.rpc.ErrorInfo as its details. */
  failure({ code, reason, message }) {
    const info = { type_url: `${TYPE_URL_PREFIX}google.rpc.ErrorInfo`, value: errorInfo(reason) };
    const metadata = new grpc.Metadata();
    metadata.set('grpc-status-details-bin', this.encode('google.rpc.Status', { code, message, details: [info] }));
    return { code, details: message, metadata };
  }

  _type(name) {
    const type = this._types[name];
    if (type === undefined) throw new Error(`no .proto file holds ${name}`);
    return type;
  }
}

/** The full name of the message in a google.protobuf.Any. */
function typeNameOf(any) {
  return any.type_url.slice(any.type_url.lastIndexOf('/') + 1);
}

function errorInfo(reason) {
  return Buffer.from(ERROR_INFO.serialize({ reason, domain: ERROR_DOMAIN }));
}

module.exports = { CallError, Contract, typeNameOf };
