precision highp float;

flat in vec4 splat;
flat in vec4 place_px;
flat in vec2 precisions;
out vec4 color;

const float MAX_ALPHA = 0.99;
const float MIN_ALPHA = 1.0 / 255.0;

void main() {
  // Not interpolated from the corners, which the GPU has moved onto its grid.
  vec2 offset_px = gl_FragCoord.xy - place_px.xy;
  vec2 axis = place_px.zw;
  vec2 deviation = precisions
    * vec2(dot(offset_px, axis), dot(offset_px, vec2(-axis.y, axis.x)));
  float alpha = min(splat.a * exp(-0.5 * dot(deviation, deviation)), MAX_ALPHA);
  if (alpha < MIN_ALPHA) discard;
  color = vec4(splat.rgb * alpha, alpha);
}
