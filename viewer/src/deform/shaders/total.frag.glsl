// What weights must be multiplied by, so that they add to at most 1.
precision highp float;
precision highp sampler2DArray;

uniform sampler2DArray weights;
uniform int layers;
out vec4 factor;

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  float sum = 0.0;
  for (int k = 0; k < layers; k++)
    sum += dot(texelFetch(weights, ivec3(at, k), 0), vec4(1.0));
  factor = vec4(1.0 / max(sum, 1.0));
}
